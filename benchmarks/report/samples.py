"""The measured values by measure, peer and size, and their medians and spreads."""

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of the rounds, the lowest and the highest value, and how many there are."""

    median: float
    low: float
    high: float
    count: int


@dataclass
class Samples:
    """All measured values."""

    values: dict[tuple[str, str, int], list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, measure: str, peer: str, *values: float, size: int = 0) -> None:
        """Add values."""
        self.values[measure, peer, size] += values

    def of(self, measure: str, peer: str, size: int = 0) -> list[float]:
        """Return the values, or an empty list if none were measured."""
        return self.values.get((measure, peer, size), [])

    def spread(self, measure: str, peer: str, size: int = 0) -> Spread | None:
        """Return the median and the spread of the values, or None if none were measured."""
        return spread(self.of(measure, peer, size))

    def peers(self, measure: str) -> list[str]:
        """Return the peers of a measure, in the order in which they were measured."""
        return list(dict.fromkeys(peer for of, peer, _ in self.values if of == measure))

    def sizes(self, measure: str) -> list[int]:
        """Return the sizes of a measure, in ascending order."""
        return sorted({size for of, _, size in self.values if of == measure})


def spread(values: Iterable[float]) -> Spread | None:
    """Return the median and the spread of values, or None if there are none."""
    known = sorted(values)
    return Spread(statistics.median(known), known[0], known[-1], len(known)) if known else None


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value such that this share of the values does not exceed it."""
    known = sorted(values)
    return known[max(ceil(len(known) * share) - 1, 0)]
