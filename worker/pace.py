"""How many events a batch may have, after what became of the ones before. (design.md, rule b and "The feed")"""

from random import uniform
from typing import Final

CONFLICTS_BEFORE_HALVING: Final = 3
FAILURES_BEFORE_GIVING_UP: Final = 2
_LONGEST_PAUSE: Final = 0.25


class Pace:
    """The size of the next batch: halved by conflicts, one after a failure, doubled by every success."""

    def __init__(self, most_events: int) -> None:
        self.events = most_events
        self._most = most_events
        self._conflicts = 0
        self._failed_alone = 0

    @property
    def gives_up(self) -> bool:
        """Tell whether the first event has failed alone, twice, for a cause not known to pass."""
        return self._failed_alone >= FAILURES_BEFORE_GIVING_UP

    def conflict(self) -> float:
        """Note a conflict; return for how many seconds to stay out of the other writer's way."""
        self._conflicts += 1
        if self._conflicts % CONFLICTS_BEFORE_HALVING == 0:
            self.events = max(self.events // 2, 1)
        return pause(self._conflicts)

    def failed(self, *, alone: bool) -> None:
        """Note a failure that is not known to pass; from now on one event at a time."""
        self.events = 1
        self._failed_alone += alone

    def succeeded(self) -> None:
        """Note a batch that was applied."""
        self._conflicts = self._failed_alone = 0
        self.events = min(self.events * 2, self._most)


def pause(attempt: int) -> float:
    """Return for how many seconds to stay out of another writer's way, at random, longer from time to time."""
    return uniform(0, min(0.002 * 2 ** min(attempt, 10), _LONGEST_PAUSE))  # noqa: S311 - jitter, not a secret
