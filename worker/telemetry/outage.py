"""An outage: what the worker cannot do at the moment, since when and why.

The code that retries reports each attempt. The log has one line when an outage begins, one for each further cause,
one every 30 s, and one at the end that says how long the outage lasted.
"""

import time
from collections.abc import Callable
from typing import Any, Final

_REMINDER_S: Final = 30.0
_MAX_CAUSES: Final = 8
"""How many causes of one outage have a line at once; further ones wait for the next reminder."""


class Outage:
    """The outages of one thing, one after the other: `name` says in the log what cannot be used.

    `cause` is the cause of the last failed attempt, and None while there is no outage. Causes are texts for people,
    without secrets.
    """

    def __init__(self, name: str, log: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.cause: str | None = None
        self._log = log
        self._clock = clock
        self._since = 0.0
        self._reported = 0.0
        self._causes: set[str] = set()

    @property
    def seconds(self) -> float:
        """Return how long the outage has lasted; 0 while there is none."""
        return 0.0 if self.cause is None else self._clock() - self._since

    def problem(self, after_s: float = 0.0) -> str | None:
        """Return why it cannot be used and for how long, as a text for people; None until `after_s` have passed."""
        if self.cause is None or self.seconds < after_s:
            return None
        return f"{self.cause} (for {self.seconds:.0f} s)"

    def failed(self, cause: str, **fields: object) -> None:
        """Report a failed attempt. The fields go into the log line, if there is one."""
        if self.cause is None:
            self._since = self._clock()
            self._causes.clear()
        is_first, self.cause = self.cause is None, cause
        is_new = cause not in self._causes and len(self._causes) < _MAX_CAUSES
        if not is_new and self._clock() - self._reported < _REMINDER_S:
            return
        self._reported = self._clock()
        self._causes.add(cause)
        lasting = {} if is_first else {"seconds": round(self.seconds, 1)}
        self._log.warning(f"{self.name} unavailable", cause=cause, **fields, **lasting)

    def ended(self) -> None:
        """Report that an attempt succeeded; does nothing if there is no outage."""
        if self.cause is not None:
            self._log.info(f"{self.name} available again", seconds=round(self.seconds, 1))
            self.cause = None
