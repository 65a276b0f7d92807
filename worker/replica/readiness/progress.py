"""Whether a partition moves. The replica looks now and then; the partition itself only says why an attempt failed."""

import time
from collections.abc import Callable
from typing import Final

from roomkeys.events.position import StreamPosition

_NO_ANSWER: Final = "MongoDB or NATS is slow, or does not answer"


class Progress:
    """Since when a partition has not moved although it has something to do, and why.

    `cause` is the text of the last failed attempt since the partition moved. `is_refused` says that a server, not
    an event, made it fail.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.cause: str | None = None
        self.is_refused = False
        self._clock = clock
        self._since: float | None = None
        self._position: StreamPosition | None = None

    def look(self, position: StreamPosition | None, *, is_idle: bool) -> None:
        """Note where the partition is now (None: it has no lease), and whether it has nothing to do."""
        has_moved = position not in {None, self._position}
        if is_idle or has_moved:
            self.cause, self.is_refused = None, False
        if is_idle:
            self._since = None
        elif has_moved or self._since is None:
            self._since = self._clock()
        self._position = position or self._position

    def failed(self, cause: str, *, is_refused: bool) -> None:
        """Note why an attempt failed."""
        self.cause, self.is_refused = cause, is_refused

    def problem(self, after_s: float) -> str | None:
        """Return why the partition has not moved for `after_s` seconds, as a text for people; None if it has."""
        stands_s = 0.0 if self._since is None else self._clock() - self._since
        return None if stands_s < after_s else f"has not moved for {stands_s:.0f} s: {self.cause or _NO_ANSWER}"

    @property
    def is_busy(self) -> bool:
        """Tell whether the partition has something to do."""
        return self._since is not None
