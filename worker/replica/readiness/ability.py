"""Whether this replica can do its work, or should leave its partitions to others. (docs/design.md, "Blame")"""

import time
from collections.abc import Callable
from typing import Final

from roomkeys.backoff import NO_JITTER, Backoff
from worker.telemetry.logs import logger

_LONGEST_PAUSE_LEASES: Final = 64

log = logger("replica")


class Ability:
    """Why this replica is unable to do its work, or None; other replicas then take its partitions.

    After its problem is gone, a replica stays unable for a pause, because a problem of its partitions is gone once
    it has no partitions. The pause doubles each time, so partitions do not move back and forth for ever.
    """

    def __init__(self, lease_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.unable: str | None = None
        self._longest_pause_s = _LONGEST_PAUSE_LEASES * lease_s
        self._pauses = Backoff(lease_s, self._longest_pause_s, spread=NO_JITTER)
        self._clock = clock
        self._pause_s = 0.0
        self._last_problem = 0.0

    def update(self, problem: str | None) -> None:
        """Note what prevents the work now, as a text for people, or that nothing does."""
        now = self._clock()
        if problem is not None:
            if self.unable is None:
                self._begin(problem, now)
            self.unable, self._last_problem = problem, now
        elif self.unable is not None and now - self._last_problem >= self._pause_s:
            self.unable = None
            log.info("this replica takes partitions again")

    def _begin(self, problem: str, now: float) -> None:
        if now - self._last_problem > self._longest_pause_s:
            self._pauses.reset()
        self._pause_s = self._pauses.next()
        log.warning("this replica cannot work, other replicas take its partitions if they can", cause=problem)
