"""Samples: what was measured, by measure, peer and size, and how they are summed up."""

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, and how far the rounds lay apart."""

    median: float
    low: float
    high: float
    count: int


@dataclass
class Samples:
    """Every value that was measured."""

    values: dict[tuple[str, str, int], list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, measure: str, peer: str, *values: float, size: int = 0) -> None:
        """Keep values."""
        self.values[measure, peer, size] += values

    def of(self, measure: str, peer: str, size: int = 0) -> list[float]:
        """Return the values; none were measured: an empty list."""
        return self.values.get((measure, peer, size), [])

    def spread(self, measure: str, peer: str, size: int = 0) -> Spread | None:
        """Return the median of the rounds and how far they lay apart."""
        return spread(self.of(measure, peer, size))

    def peers(self, measure: str) -> list[str]:
        """Return who was measured, in order."""
        return list(dict.fromkeys(peer for of, peer, _ in self.values if of == measure))

    def sizes(self, measure: str) -> list[int]:
        """Return the sizes that were measured."""
        return sorted({size for of, _, size in self.values if of == measure})


def spread(values: Iterable[float]) -> Spread | None:
    """Sum values up."""
    known = sorted(values)
    return Spread(statistics.median(known), known[0], known[-1], len(known)) if known else None


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that this share of the values does not exceed."""
    known = sorted(values)
    return known[max(ceil(len(known) * share) - 1, 0)]
