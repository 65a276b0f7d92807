"""Measure all peers in turn on this machine, within one run: `make bench`."""

import asyncio
import time
from pathlib import Path
from typing import Final

from benchmarks.harness.recording import Recording
from benchmarks.harness.site import bench
from benchmarks.harness.sizes import IS_QUICK
from benchmarks.report.machine import description
from benchmarks.report.plots import draw
from benchmarks.report.progress import say
from benchmarks.report.samples import Samples
from benchmarks.report.tables import document, ratios, replace_table
from benchmarks.scenarios import fanout, flood, growth, removals
from worker.telemetry import logs

FOLDER: Final = Path(__file__).parent


async def measured(samples: Samples) -> Recording:
    """Run every scenario."""
    async with bench() as running:
        say("create the rooms")
        rooms = await fanout.rooms_by_size(running)
        for site in {running.site(peer).name: running.site(peer) for peer in running.workers}.values():
            await removals.prepare(site)
        await growth.prepare(running.ours)
        say("fan-out and reading")
        async with fanout.peers(running) as peers:
            await fanout.fan_out(running, samples, peers, rooms)
            say("fan-out by size")
            await fanout.by_size(running, samples, peers, rooms)
        say("fan-out to a broker without a subject cache")
        await fanout.uncached(running, samples, rooms)
        await fanout.peak(running, samples, rooms)
        await removals.removals(running, samples)
        await flood.flood(running, samples)
        await growth.growth(running, samples)
        return running.recorder


async def main() -> None:
    """Measure, print the results and write them to files; a quick run only prints them."""
    logs.configure("warning", "console")
    samples, machine, started = Samples(), description(), time.monotonic()
    recorder = await measured(samples)
    text = document(samples, recorder, machine, time.monotonic() - started)
    print(text)
    if not IS_QUICK:
        (FOLDER / "results.md").write_text(text)
        replace_table(FOLDER.parent / "docs" / "performance.md", ratios(samples))
        draw(samples, FOLDER / "plots")


if __name__ == "__main__":
    asyncio.run(main())
