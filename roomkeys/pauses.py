"""Pauses before another attempt."""

from random import uniform
from typing import Final

FIRST_RETRY_SECONDS: Final = 0.4
LONGEST_RETRY_SECONDS: Final = 8.0


class Pauses:
    """How long a client waits before it tries again, longer from time to time, by a measure of its own.

    Thousands of clients that fail at once do not come back at once, but what one client asked for together it
    asks for together again.
    """

    def __init__(self) -> None:
        self._measure = uniform(0.5, 1.5)  # noqa: S311 - jitter, no secret

    def after(self, failures: int) -> float:
        """Return how many seconds to wait after so many failures in a row."""
        return self._measure * min(FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 16), LONGEST_RETRY_SECONDS)

    def spread(self, seconds: float) -> float:
        """Return about so many seconds: the client's own share of them."""
        return self._measure * seconds
