"""Backoff: how long to pause before the next attempt.

The first pause is short, each further one is twice as long, up to a limit. A random factor spreads the attempts of
many programs that failed at the same moment. This module reads no clock and never sleeps: the caller does.
"""

from random import uniform
from typing import Final

FULL_JITTER: Final = (0.0, 1.0)
"""Spread: any pause up to the full one, for writers that stay out of each other's way."""
NO_JITTER: Final = (1.0, 1.0)
"""Spread: exactly the full pause."""
_MAX_DOUBLINGS: Final = 64


class Backoff:
    """The pauses of one retry loop, or of several that count their attempts themselves and call only `pause`.

    `spread` is the range of the random factor, drawn for each pause. A range of one value, such as `(0.7, 0.7)`,
    is a fixed factor: equal attempts then have equal pauses.
    """

    def __init__(self, first: float, longest: float, *, spread: tuple[float, float] = (0.5, 1.0)) -> None:
        self.attempts = 0
        self._first = first
        self._longest = longest
        self._spread = spread

    def next(self) -> float:
        """Count a failed attempt and return the pause after it."""
        self.attempts += 1
        return self.pause(self.attempts)

    def reset(self) -> None:
        """Begin again with the first pause, after an attempt that succeeded."""
        self.attempts = 0

    def pause(self, attempt: int) -> float:
        """Return the pause after the given failed attempt, counted from 1, in the unit of `first` and `longest`."""
        full_pause = min(self._first * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS), self._longest)
        return uniform(*self._spread) * full_pause  # noqa: S311 - no secret
