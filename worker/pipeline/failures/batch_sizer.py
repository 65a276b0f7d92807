"""What follows from how the previous batches ended: how many events the next one may have, and which have failed."""

import time
from typing import Final

from roomkeys.backoff import FULL_JITTER, NO_JITTER, Backoff
from worker.limits import Limits

LONGEST_RETRY_PAUSE_S: Final = 30.0
"""Seconds after which an event that has failed alone is tried again at the latest."""


def conflict_backoff() -> Backoff:
    """Return the pauses (seconds) that keep out of another writer's way."""
    return Backoff(0.004, 0.25, spread=FULL_JITTER)


class BatchSizer:
    """The size of the next batch: halved by conflicts, one after a failure, doubled by every success.

    A batch that fails is tried again one event at a time. `should_set_aside` says that the first event then fails
    alone, again and again. A partition keeps its sizer from lease to lease, because a commit in doubt ends the lease.
    """

    def __init__(self, most_events: int, limits: Limits) -> None:
        self.events = most_events
        self._most = most_events
        self._limits = limits
        self._conflicts = conflict_backoff()
        self._failures = Backoff(0.1, 2.0, spread=NO_JITTER)
        self._failed_alone = 0
        self._doubts = 0
        self._conflicts_since: float | None = None
        self._conflicted_for_s = 0.0

    @property
    def should_set_aside(self) -> bool:
        """Tell whether the first event has failed alone, or met conflicts alone, for long enough."""
        limits = self._limits
        failed = self._failed_alone >= limits.failures_before_set_aside
        return failed or (self.events == 1 and self._conflicted_for_s >= limits.conflict_s)

    def on_conflict(self) -> float:
        """Note a write conflict; return for how many seconds to stay out of the other writer's way."""
        pause = self._conflicts.next()
        now = time.monotonic()
        self._conflicts_since = self._conflicts_since or now
        self._conflicted_for_s = now - self._conflicts_since
        long = self._conflicted_for_s >= self._limits.conflict_s
        if self.events > 1 and (long or self._conflicts.attempts % self._limits.conflicts_before_halving == 0):
            self.events = 1 if long else self.events // 2
            self._conflicts_since, self._conflicted_for_s = now, 0.0
        return pause

    def on_failure(self, *, alone: bool) -> float:
        """Note a batch of which nothing was written; return for how many seconds to pause.

        From now on there is one event per batch. `alone`: the batch that failed had only one.
        """
        self.events = 1
        self._failed_alone += alone
        return self._failures.next() if alone else 0.0

    def on_doubt(self, *, alone: bool) -> None:
        """Note a batch of which nobody knows whether it was written. From now on there is one event per batch."""
        self.events = 1
        self._doubts += alone

    def pop_suspicion(self) -> bool:
        """Tell whether the commit of the first event was in doubt again and again; then begin to count again."""
        if self._doubts < self._limits.failures_before_set_aside:
            return False
        self._doubts = 0
        return True

    def on_success(self) -> None:
        """Note a batch that was applied, or an event that was set aside."""
        self._conflicts.reset()
        self._failures.reset()
        self._failed_alone = self._doubts = 0
        self._conflicts_since, self._conflicted_for_s = None, 0.0
        self.events = min(self.events * 2, self._most)


class FailuresInPlace:
    """How often an event that cannot be set aside has failed between two control transactions, over some time.

    It is applied in slices, or too large to wait. It stays in its place and holds up its partition, so it is tried
    often, and only some of the failures count.
    """

    def __init__(self, limits: Limits) -> None:
        self.failures = 0
        self._most = limits.tries_before_dead_letter
        self._pauses = Backoff(limits.set_aside_pause_s, LONGEST_RETRY_PAUSE_S, spread=NO_JITTER)
        self._next = 0.0

    @property
    def give_up(self) -> bool:
        """Tell whether the event has failed often enough to be given up."""
        return self.failures >= self._most

    def count(self) -> bool:
        """Note a failure; tell whether it counts, because the one that counted before is long enough ago."""
        if time.monotonic() < self._next:
            return False
        self.failures += 1
        self._next = time.monotonic() + self._pauses.next()
        return True

    def clear(self) -> None:
        """Begin again: a part of the event was applied, or a control transaction was refused."""
        self.failures = 0
        self._pauses.reset()
        self._next = 0.0
