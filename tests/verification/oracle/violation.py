"""A check of one invariant, and a violation that it found."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.verification.invariants import Invariant
from tests.verification.oracle.analysis import Analysis

Find = Callable[[Analysis], Iterator[str]]
"""Yields a text for everything that is wrong: rooms, versions, accounts and sequences, and never a key."""


@dataclass(frozen=True, slots=True)
class Check:
    """One function that checks one invariant."""

    invariant: Invariant
    find: Find

    @property
    def name(self) -> str:
        """Return the name of the function."""
        return self.find.__name__


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold, the name of the check that found it, and what is wrong."""

    invariant: Invariant
    check: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}, {self.check}: {self.text}"
