"""The tables of `benchmarks/results.md`."""

from collections.abc import Iterable, Sequence
from typing import Final

from benchmarks.harness.recording import Recording
from benchmarks.harness.sizes import SIZES
from benchmarks.report.samples import Samples, percentile
from benchmarks.report.targets import NO_VALUE, Target, targets

_PEERS: Final = {
    "taken": ("Publish to barrier, nobody subscribed", "recipients a second", True),
    "uncached": ("Publish to barrier, nobody subscribed, no_sublist_cache", "recipients a second", True),
    "received": ("Publish to barrier, the recorder receives everything", "recipients a second", True),
    "fan-out": ("Database to barrier, the recorder receives everything", "recipients a second", True),
    "taken CPU": ("Client CPU, publish to barrier", "µs a recipient", False),
    "fan-out CPU": ("Client CPU, database to barrier", "µs a recipient", False),
    "read": ("Accounts from the database", "accounts a second", True),
    "read CPU": ("Client CPU, accounts from the database", "µs an account", False),
    "backlog": ("A backlog of removals in rooms of ten", "removals a second", True),
    "backlog CPU": ("Worker CPU, backlog", "µs a removal", False),
    "idle CPU": ("Worker CPU, one removal alone in a room of ten", "µs a removal", False),
    "memory": ("Peak memory above idle, the largest room", "MiB", False),
}
_LATENCIES: Final = {"room": f"a room of {SIZES.room:,}", "room of ten": "a room of ten"}
_WORST: Final = 0.99
_LARGE: Final = 100


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; all columns but the first are numbers."""
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def number(value: float | None) -> str:
    """Return a number with three significant digits, or all before the point."""
    if value is None:
        return NO_VALUE
    return f"{value:,.0f}" if abs(value) >= _LARGE else f"{value:.3g}"


def ratios(samples: Samples) -> str:
    """Return the table of all targets."""
    heads = ("measure", "ours", "against", "theirs", "ratio", "at least", "shown", "aim", "reached")
    return table(heads, map(_target, targets(samples)))


def _target(line: Target) -> list[str]:
    sign = "≥" if line.more else "≤"
    bounds = []
    for bound in (line.at_least, line.aim):
        bounds += [NO_VALUE if bound is None else f"{sign} {bound:g}", line.reaches(bound)]
    return [line.what, number(line.ours), line.against, number(line.theirs), number(line.ratio), *bounds]


def by_peer(samples: Samples, measure: str) -> str:
    """Return a measure's table: every peer's median, spread, and our value over theirs."""
    title, unit, _ = _PEERS[measure]
    ours = samples.spread(measure, "ours")
    rows = []
    for peer in samples.peers(measure):
        found = samples.spread(measure, peer)
        if found is not None:
            ratio = number(ours.median / found.median) if ours and found.median else NO_VALUE
            rows.append([peer, number(found.median), f"{number(found.low)} to {number(found.high)}", ratio])
    return f"### {title}\n\n" + table(("", unit, "spread", "ours / this"), rows)


def latencies(samples: Samples) -> str:
    """Return the table of latencies."""
    rows = []
    for measure, name in _LATENCIES.items():
        for peer in samples.peers(measure):
            values = samples.of(measure, peer)
            cells = [number(percentile(values, share)) for share in (0.5, 0.9, _WORST)]
            rows.append([f"{name}: {peer}", *cells, number(max(values)), str(len(values))])
    heads = ("", "p50, ms", "p90", "p99", "longest", "removals")
    return "### One removal on an idle system, until the last survivor holds the key\n\n" + table(heads, rows)


def idle(samples: Samples) -> str:
    """Return the table of our steps for one removal alone; the key is out within the third one."""
    prefix = "idle step "
    measures = [of for of in dict.fromkeys(of for of, _, _ in samples.values) if of.startswith(prefix)]
    peers = samples.peers(measures[0]) if measures else []
    rows = []
    for measure in measures:
        found = [samples.spread(measure, peer) for peer in peers]
        rows.append([measure.removeprefix(prefix), *(number(one.median) if one else NO_VALUE for one in found)])
    return "### Our steps for one removal in a room of ten, mean ms\n\n" + table(("step", *peers), rows)


def growth(samples: Samples) -> str:
    """Return the tables of cost by size."""
    parts = []
    for measure, head in (("by size", "members a room"), ("by backlog", "events")):
        rows = []
        for size in samples.sizes(measure):
            rate, cpu = samples.spread(measure, "ours", size), samples.spread(f"{measure} CPU", "ours", size)
            if rate is not None and cpu is not None:
                spread = f"{number(rate.low)} to {number(rate.high)}"
                rows.append(
                    [f"{size:,}", number(1e6 / rate.median), number(rate.median), spread, number(cpu.median)]
                )
        parts.append(table((head, "µs each", "a second", "spread", "CPU, µs each"), rows))
    return "### Cost as rooms and backlogs grow\n\n" + "\n\n".join(parts)


def busy(samples: Samples) -> str:
    """Return who was busy while the backlog was worked off, and which steps took how long."""
    rows = []
    for measure in dict.fromkeys(measure for measure, _, _ in samples.values):
        if measure.startswith("backlog CPU of "):
            program = measure.removeprefix("backlog CPU of ").replace("python", "recorder")
            cores = [samples.spread(measure, peer) for peer in ("ours", "Go")]
            rows.append([program, *(number(value.median) if value else NO_VALUE for value in cores)])
    steps = [
        [step, number(found.median)] for step in samples.peers("step") if (found := samples.spread("step", step))
    ]
    return (
        "### While the backlog is worked off\n\nCores in use, by program:\n\n"
        + table(("", "ours", "Go"), rows)
        + "\n\nPartitions in each of our steps at a time (of 8):\n\n"
        + table(("step", "partitions"), steps)
    )


def reach(recorder: Recording) -> str:
    """Say that everybody was reached, and that the recorder was no bottleneck."""
    return (
        f"Reach: {recorder.reached:,} of {recorder.expected:,} keys arrived, in every run that counts, and nobody "
        "who had been removed was sent one. The recorder was busy for "
        f"{max(recorder.loads):.0%} of a core at most, with the limit's messages too."
    )


def document(samples: Samples, recorder: Recording, machine: dict[str, str], took: float) -> str:
    """Return the whole of `results.md`."""
    about = table(("", ""), [[name, value] for name, value in machine.items()])
    parts = [
        "# Results",
        (
            f"Made by `make bench` in {took:.0f} s: peers in turn, {SIZES.rounds} rounds, medians. "
            "Servers, recorder and clients share the machine. Ratios are the result: numbers are the machine's."
        ),
        about,
        reach(recorder),
        "## Ratios",
        ratios(samples),
        "## Values",
        *(by_peer(samples, measure) for measure in _PEERS if samples.peers(measure)),
        latencies(samples),
        idle(samples),
        growth(samples),
        busy(samples),
    ]
    return "\n\n".join(parts) + "\n"
