"""How many events a batch may have, after what became of the ones before. (design.md, rule b and "The feed")"""

import time
from typing import Final

from worker.broker.backoff import jittered_backoff

CONFLICTS_BEFORE_HALVING: Final = 3

FAILURES_BEFORE_GIVING_UP: Final = 3

SECONDS_BEFORE_GIVING_UP: Final = 5.0
"""An event that fails alone is not given up before this: what looks unknown may pass, as elections do."""

_LONGEST_FAILURE_PAUSE: Final = 2.0


class BatchSizer:
    """The size of the next batch: halved by conflicts, one after a failure, doubled by every success."""

    def __init__(self, most_events: int) -> None:
        self.events = most_events
        self._most = most_events
        self._conflicts = 0
        self._failures = 0
        self._failed_alone = 0
        self._alone_since = 0.0

    @property
    def should_dead_letter(self) -> bool:
        """Tell whether the first event has failed alone, often and long enough, for a cause not known to pass."""
        waited = time.monotonic() - self._alone_since
        return self._failed_alone >= FAILURES_BEFORE_GIVING_UP and waited >= SECONDS_BEFORE_GIVING_UP

    def on_conflict(self) -> float:
        """Note a conflict; return for how many seconds to stay out of the other writer's way."""
        self._conflicts += 1
        if self._conflicts % CONFLICTS_BEFORE_HALVING == 0:
            self.events = max(self.events // 2, 1)
        return jittered_backoff(self._conflicts)

    def on_failure(self, *, alone: bool) -> float:
        """Note a failure that is not known to pass: from now on one event at a time, after so many seconds."""
        self.events = 1
        self._failures += 1
        if alone:
            self._alone_since = self._alone_since if self._failed_alone else time.monotonic()
            self._failed_alone += 1
        return min(0.1 * 2.0 ** min(self._failures, 10), _LONGEST_FAILURE_PAUSE)

    def on_success(self) -> None:
        """Note a batch that was applied."""
        self._conflicts = self._failures = self._failed_alone = 0
        self.events = min(self.events * 2, self._most)
