"""The tables of `benchmarks/results.md` and of `docs/performance.md`."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import fill
from typing import Final

from benchmarks.harness.flood import IDLE
from benchmarks.harness.recording import Recording
from benchmarks.harness.sizes import SIZES
from benchmarks.report.samples import Samples, percentile
from benchmarks.report.targets import NO_VALUE, Target, targets

_PEERS: Final = {
    "taken": ("Publish to barrier, no subscriber", "recipients per second", True),
    "uncached": ("Publish to barrier, no subscriber, no_sublist_cache", "recipients per second", True),
    "received": ("Publish to barrier, the recorder receives everything", "recipients per second", True),
    "fan-out": ("Database to barrier, the recorder receives everything", "recipients per second", True),
    "taken CPU": ("Client CPU, publish to barrier", "µs per recipient", False),
    "fan-out CPU": ("Client CPU, database to barrier", "µs per recipient", False),
    "read": ("Accounts from the database", "accounts per second", True),
    "read CPU": ("Client CPU, accounts from the database", "µs per account", False),
    "backlog": ("A backlog of removals in rooms of ten", "removals per second", True),
    "backlog CPU": ("Worker CPU, backlog", "µs per removal", False),
    "idle CPU": ("Worker CPU, a single removal in a room of ten", "µs per removal", False),
    "memory": ("Peak memory above idle, the largest room", "MiB", False),
}
_LATENCIES: Final = {"room": f"a room of {SIZES.room:,}", "room of ten": "a room of ten"}
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
_WORST: Final = 0.99
_LARGE: Final = 100
_COLUMNS: Final = 120


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are numbers."""
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def number(value: float | None) -> str:
    """Return a number with three significant digits, or with all digits before the decimal point."""
    if value is None:
        return NO_VALUE
    return f"{value:,.0f}" if abs(value) >= _LARGE else f"{value:.3g}"


def ratios(samples: Samples) -> str:
    """Return the table of all ratios, with their targets and stretch goals."""
    heads = ("measure", "ours", "against", "theirs", "ratio", "target", "met", "stretch goal", "met")
    return table(heads, map(_target, targets(samples)))


def _target(line: Target) -> list[str]:
    sign = "≥" if line.more else "≤"
    bounds = []
    for bound in (line.target, line.stretch_goal):
        bounds += [NO_VALUE if bound is None else f"{sign} {bound:g}", line.meets(bound)]
    return [line.what, number(line.ours), line.against, number(line.theirs), number(line.ratio), *bounds]


def by_peer(samples: Samples, measure: str) -> str:
    """Return the table of a measure: the median and spread of every peer, and our value divided by theirs."""
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
    """Return the table of our steps for a single removal. The key is sent in the third step."""
    prefix = "idle step "
    measures = [of for of in dict.fromkeys(of for of, _, _ in samples.values) if of.startswith(prefix)]
    peers = samples.peers(measures[0]) if measures else []
    rows = []
    for measure in measures:
        found = [samples.spread(measure, peer) for peer in peers]
        rows.append([measure.removeprefix(prefix), *(number(one.median) if one else NO_VALUE for one in found)])
    return "### Our steps for one removal in a room of ten, mean ms\n\n" + table(("step", *peers), rows)


def floods(samples: Samples) -> str:
    """Return the table of removals beside floods, and of the CPU that each program used meanwhile."""
    idle = samples.of("flood", IDLE)
    programs = {"worker": "event worker", "service": "key service", "nats-server": "nats-server", "python": "flooder"}
    rows = []
    for name in samples.peers("flood"):
        values, rate = samples.of("flood", name), samples.spread("flood rate", name)
        shares = [percentile(values, share) for share in (0.5, 0.9, _WORST)]
        cores = [samples.spread(f"flood CPU of {program}", name) for program in programs]
        cells = [number(rate.median) if rate else NO_VALUE, *map(number, shares)]
        ratio = number(shares[0] / percentile(idle, 0.5))
        rows.append([name, *cells, ratio, *(number(core.median) if core else NO_VALUE for core in cores)])
    heads = ("", "messages per second", "p50, ms", "p90", "p99", "p50 / no flood", *programs.values())
    log = sum(samples.of("flood log", "ours")) / 1024
    return (
        "### One removal in a room of ten beside a flood of one member\n\n"
        + table(heads, rows)
        + f"\n\nThe last columns are cores in use. All processes of the worker wrote {number(log)} KiB of log."
    )


def growth(samples: Samples) -> str:
    """Return the tables of cost by size."""
    parts = []
    for measure, head in (("by size", "members per room"), ("by backlog", "events")):
        rows = []
        for size in samples.sizes(measure):
            rate, cpu = samples.spread(measure, "ours", size), samples.spread(f"{measure} CPU", "ours", size)
            if rate is not None and cpu is not None:
                spread = f"{number(rate.low)} to {number(rate.high)}"
                rows.append([f"{size:,}", number(1e6 / rate.median), number(rate.median), spread, number(cpu.median)])
        parts.append(table((head, "µs each", "per second", "spread", "CPU, µs each"), rows))
    return "### Cost as rooms and backlogs grow\n\n" + "\n\n".join(parts)


def busy(samples: Samples) -> str:
    """Return how busy each program was while a backlog was processed, and how long our steps took."""
    rows = []
    for measure in dict.fromkeys(measure for measure, _, _ in samples.values):
        if measure.startswith("backlog CPU of "):
            program = measure.removeprefix("backlog CPU of ").replace("python", "recorder")
            cores = [samples.spread(measure, peer) for peer in ("ours", "Go")]
            rows.append([program, *(number(value.median) if value else NO_VALUE for value in cores)])
    steps = [[step, number(found.median)] for step in samples.peers("step") if (found := samples.spread("step", step))]
    return (
        "### While the backlog is processed\n\nCores in use, by program:\n\n"
        + table(("", "ours", "Go"), rows)
        + "\n\nMean number of partitions in each of our steps (of 8):\n\n"
        + table(("step", "partitions"), steps)
    )


def reach(recorder: Recording) -> str:
    """Return the sentences on reach and on the load of the recorder."""
    return fill(
        f"Reach: {recorder.reached:,} of {recorder.expected:,} keys arrived, and no removed account was sent one. "
        f"The recorder used at most {max(recorder.loads):.0%} of a core, also with the messages of the limit.",
        _COLUMNS,
    )


def document(samples: Samples, recorder: Recording, machine: dict[str, str], took: float) -> str:
    """Return the whole page `benchmarks/results.md`."""
    about = table(("", ""), [[name, value] for name, value in machine.items()])
    parts = [
        "# Results",
        fill(
            f"`make bench` wrote this page in {took:.0f} s. It measured the peers in turn. Values are medians of "
            f"{SIZES.rounds} rounds. Servers, recorder and clients share the machine. Compare the ratios; "
            "absolute numbers belong to the machine. [README.md](README.md) says how to read the tables.",
            _COLUMNS,
        ),
        about,
        reach(recorder),
        "## Ratios",
        ratios(samples),
        "## Values",
        *(by_peer(samples, measure) for measure in _PEERS if samples.peers(measure)),
        latencies(samples),
        idle(samples),
        floods(samples),
        growth(samples),
        busy(samples),
    ]
    return "\n\n".join(parts) + "\n"


def replace_table(page: Path, text: str) -> None:
    """Write a text between the marks of a page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{page} has no marks for a table")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
