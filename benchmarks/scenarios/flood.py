"""Removals beside a flood: what the requests of one member do to the removals of others."""

import asyncio
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.harness.child import cpu_by_program, cpu_seconds
from benchmarks.harness.flood import IDLE, flooding, floods
from benchmarks.harness.site import OURS, Bench
from benchmarks.harness.sizes import SIZES, TEN
from benchmarks.harness.workers import Worker, working
from benchmarks.report.progress import say
from benchmarks.report.samples import Samples
from benchmarks.scenarios.removals import ROOMS_OF_TEN, removed

_SETTLE_SECONDS = 3.0
"""How long a flood lasts before the first removal: it is then far beyond the burst of the rate limit."""


async def flood(bench: Bench, samples: Samples) -> None:
    """Measure removals in rooms of ten with and without each flood, in several rounds."""
    site = bench.ours
    with TemporaryDirectory() as folder:
        log = Path(folder, "log")
        async with working(bench, OURS, "warm-flood-", "run", log=log) as worker:
            for _ in range(SIZES.rounds):
                for name in floods(site.name):
                    say(f"removals beside a flood: {name}")
                    before = await bench.received()
                    await _measure(bench, samples, IDLE, 2)
                    own = await bench.received() - before
                    async with flooding(site.nats_url, site.name, name):
                        await asyncio.sleep(_SETTLE_SECONDS)
                        await _beside(bench, samples, name, worker, own)
                    await site.put_back(ROOMS_OF_TEN, SIZES.removals_beside_flood, 2, 2)
        samples.add("flood log", OURS, await asyncio.to_thread(_size, log))


async def _beside(bench: Bench, samples: Samples, name: str, worker: Worker, own: int) -> None:
    """Measure removals, the CPU time of every program, and the rate of the flood without `own` messages."""
    received, since, worked = await bench.received(), time.monotonic(), _cpu(worker.pid)
    await _measure(bench, samples, name, 3)
    seconds = time.monotonic() - since
    samples.add("flood rate", name, (await bench.received() - received - own) / seconds)
    for program, total in _cpu(worker.pid).items():
        samples.add(f"flood CPU of {program}", name, (total - worked.get(program, 0.0)) / seconds)


async def _measure(bench: Bench, samples: Samples, name: str, number: int) -> None:
    """Remove the member with this number, after those with lower numbers, from each of some rooms."""
    latencies = [
        await removed(bench, bench.ours, f"{ROOMS_OF_TEN}{room}", number, TEN - number + 1)
        for room in range(SIZES.removals_beside_flood)
    ]
    samples.add("flood", name, *latencies)


def _size(path: Path) -> int:
    return path.stat().st_size


def _cpu(supervisor: int) -> dict[str, float]:
    """Return the CPU time of every program, in seconds; the halves of the worker by their roles."""
    halves = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    roles = {pid: Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in halves}
    return cpu_by_program() | {words[words.index("--only") + 1]: cpu_seconds(int(pid)) for pid, words in roles.items()}
