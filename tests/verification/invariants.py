"""The invariants of docs/design.md, by number.

The model, the oracle and the mutations name an invariant by the members of this class. A test compares the
numbers and titles with docs/design.md.
"""

from enum import IntEnum
from typing import Final


class Invariant(IntEnum):
    """What must always hold."""

    REACH = 1
    EXCLUSION = 2
    HOLD_BEFORE_USE = 3
    ONE_KEY_PER_VERSION = 4
    SAME_BYTES = 5
    ORDER_ONCE = 6
    ISOLATION = 7
    BOUNDED = 8
    NO_KEY_LEAKS = 9
    NOTHING_UNCHECKED = 10

    @property
    def title(self) -> str:
        """Return the title that docs/design.md gives it."""
        return _TITLES[self]

    def __str__(self) -> str:
        return f"invariant {self.value} ({self.title})"


_TITLES: Final = {
    Invariant.REACH: "Reach",
    Invariant.EXCLUSION: "Exclusion",
    Invariant.HOLD_BEFORE_USE: "Hold before use",
    Invariant.ONE_KEY_PER_VERSION: "One key per version",
    Invariant.SAME_BYTES: "Same bytes",
    Invariant.ORDER_ONCE: "Order, once",
    Invariant.ISOLATION: "Isolation",
    Invariant.BOUNDED: "Bounded",
    Invariant.NO_KEY_LEAKS: "No key leaks",
    Invariant.NOTHING_UNCHECKED: "Nothing reaches the wire unchecked",
}
