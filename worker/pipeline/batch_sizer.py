"""How many events the next batch may have, given how the previous batches ended. (docs/design.md, rule b)"""

import time

from roomkeys.backoff import FULL_JITTER, NO_JITTER, Backoff
from worker.limits import Limits


def conflict_backoff() -> Backoff:
    """Return the pauses (seconds) that keep out of another writer's way."""
    return Backoff(0.004, 0.25, spread=FULL_JITTER)


class BatchSizer:
    """The size of the next batch: halved by conflicts, one after a failure, doubled by every success.

    A batch that fails for an unknown cause is tried again one event at a time. An event that then fails
    alone, often and long enough, becomes a dead letter.
    """

    def __init__(self, most_events: int, limits: Limits) -> None:
        self.events = most_events
        self._most = most_events
        self._limits = limits
        self._conflicts = conflict_backoff()
        self._failures = Backoff(0.2, 2.0, spread=NO_JITTER)
        self._failed_alone = 0
        self._alone_since = 0.0

    @property
    def should_dead_letter(self) -> bool:
        """Tell whether the first event has failed alone, often and long enough, for an unknown cause."""
        waited = time.monotonic() - self._alone_since
        return self._failed_alone >= self._limits.failures_before_dead_letter and waited >= self._limits.dead_letter_s

    def on_conflict(self) -> float:
        """Note a write conflict; return for how many seconds to stay out of the other writer's way."""
        pause = self._conflicts.next()
        if self._conflicts.attempts % self._limits.conflicts_before_halving == 0:
            self.events = max(self.events // 2, 1)
        return pause

    def on_failure(self, *, alone: bool) -> float:
        """Note a failure with an unknown cause; return for how many seconds to pause.

        From now on there is one event per batch. `alone`: the batch that failed had only one.
        """
        self.events = 1
        if alone:
            self._alone_since = self._alone_since if self._failed_alone else time.monotonic()
            self._failed_alone += 1
        return self._failures.next()

    def on_success(self) -> None:
        """Note a batch that was applied."""
        self._conflicts.reset()
        self._failures.reset()
        self._failed_alone = 0
        self.events = min(self.events * 2, self._most)
