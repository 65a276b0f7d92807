"""The targets: ratios of this worker to its peers, each with a target or a stretch goal or both."""

from dataclasses import dataclass
from typing import Final

from benchmarks.harness.flood import IDLE
from benchmarks.harness.sizes import SIZES
from benchmarks.report.samples import Samples, percentile

NO_VALUE: Final = "-"
_MICRO: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Target:
    """One row: our value divided by theirs. With `more`, a higher ratio is better."""

    what: str
    ours: float | None
    against: str
    theirs: float | None
    target: float | None
    stretch_goal: float | None = None
    more: bool = True

    @property
    def ratio(self) -> float | None:
        """Return our value divided by theirs, or None if one is missing."""
        return self.ours / self.theirs if self.ours is not None and self.theirs else None

    def meets(self, bound: float | None) -> str:
        """Return "yes" or "no": whether the ratio meets a bound."""
        if bound is None or self.ratio is None:
            return NO_VALUE
        return "yes" if (self.ratio >= bound if self.more else self.ratio <= bound) else "no"


def targets(samples: Samples) -> list[Target]:
    """Return every row with the measured values."""
    return [*_sending(samples), *_reading(samples), *_removing(samples), *_beside_floods(samples), *_growing(samples)]


def _sending(samples: Samples) -> list[Target]:
    room = f"a room of {SIZES.large_room:,}"
    lines = []
    for measure, who in (
        ("taken", "no subscriber"),
        ("received", "one subscriber"),
        ("uncached", "no subscriber, no_sublist_cache"),
    ):
        what = f"recipients per second, {room}, publish to barrier, {who}"
        ours = _median(samples, measure, "ours")
        lines.append(Target(what, ours, "Go", _median(samples, measure, "Go"), 3))
        lines.append(Target(what, ours, "limit", _median(samples, measure, "limit"), None, 0.9))
    cpu = "taken CPU"
    tasks = _median(samples, cpu, "nats-py, tasks")
    lines.append(
        Target(
            "client CPU per recipient, µs",
            _median(samples, cpu, "ours"),
            "nats-py, tasks",
            tasks,
            1 / 50,
            1 / 100,
            more=False,
        )
    )
    return lines


def _reading(samples: Samples) -> list[Target]:
    what, ours = (
        f"accounts per second from the database, {SIZES.large_room:,} members",
        _median(samples, "read", "ours"),
    )
    bounds = {"Go, projected": 1.5, "Go, documents": 4.0, "Motor, documents": 4.0}
    lines = [Target(what, ours, peer, _median(samples, "read", peer), bound) for peer, bound in bounds.items()]
    return [*lines, Target(what, ours, "server", _median(samples, "read", "server"), None, 1)]


def _removing(samples: Samples) -> list[Target]:
    what = f"removals per second, rooms of ten, backlog of {SIZES.rooms_of_ten:,}"
    lines = [Target(what, _median(samples, "backlog", "ours"), "Go", _median(samples, "backlog", "Go"), 4, 8)]
    for measure, name, share, least, aim in (
        ("room", f"a room of {SIZES.room:,}", 0.5, 0.8, 0.4),
        ("room", f"a room of {SIZES.room:,}", 0.99, 0.8, 0.4),
        ("room of ten", "a room of ten", 0.5, 1.0, 0.7),
    ):
        ours, go = (_percentile(samples, measure, peer, share) for peer in ("ours", "Go"))
        what = f"ms until the last survivor of {name} holds the key, p{share * 100:.0f}"
        lines.append(Target(what, ours, "Go", go, least, aim, more=False))
    return lines


def _beside_floods(samples: Samples) -> list[Target]:
    idle = _percentile(samples, "flood", IDLE, 0.5)
    names = [name for name in samples.peers("flood") if name != IDLE]
    lines = [
        Target(
            f"ms until the last survivor of a room of ten holds the key, p50, beside {name}",
            _percentile(samples, "flood", name, 0.5),
            IDLE,
            idle,
            2,
            more=False,
        )
        for name in names
    ]
    worst = max((_percentile(samples, "flood", name, 0.99) or 0.0 for name in names), default=None)
    return [*lines, Target("the same, p99 beside the worst flood", worst, "300 ms", 300, 1, more=False)]


def _growing(samples: Samples) -> list[Target]:
    memory = f"MiB above idle for a room of {SIZES.peak_room:,}"
    lines = [Target(memory, _median(samples, "memory", "ours"), "1 MiB", 1.0, 64, 16, more=False)]
    for measure, what in (
        ("by size", "µs per recipient, most expensive size over cheapest"),
        ("by backlog", "µs per event, most expensive backlog over cheapest"),
    ):
        found = [_median(samples, measure, "ours", size) for size in samples.sizes(measure)]
        rates = [rate for rate in found if rate]
        if rates:
            highest, lowest = _MICRO / min(rates), _MICRO / max(rates)
            lines.append(Target(what, highest, "cheapest", lowest, 1.15, more=False))
    return lines


def _median(samples: Samples, measure: str, peer: str, size: int = 0) -> float | None:
    found = samples.spread(measure, peer, size)
    return None if found is None else found.median


def _percentile(samples: Samples, measure: str, peer: str, share: float) -> float | None:
    values = samples.of(measure, peer)
    return percentile(values, share) if values else None
