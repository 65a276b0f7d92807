"""How long to pause before another attempt."""

from random import uniform
from typing import Final

_LONGEST_CONFLICT_PAUSE: Final = 0.25


def jittered_backoff(attempt: int) -> float:
    """Return for how many seconds to stay out of another writer's way, at random, longer from time to time."""
    return uniform(0, min(0.002 * 2 ** min(attempt, 10), _LONGEST_CONFLICT_PAUSE))  # noqa: S311 - jitter, no secret
