"""Everything side by side on this machine, in turn within one run: `make bench`."""

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
from benchmarks.report.tables import document
from benchmarks.scenarios import fanout, growth, removals
from worker.telemetry import logs

FOLDER: Final = Path(__file__).parent


async def measured(samples: Samples) -> Recording:
    """Measure everything once."""
    async with bench() as made:
        say("rooms are made")
        rooms = await fanout.rooms_by_size(made)
        for site in {made.site(peer).name: made.site(peer) for peer in made.workers}.values():
            await removals.prepare(site)
        await growth.prepare(made.ours)
        say("fan-out and reading")
        async with fanout.peers(made) as peers:
            await fanout.fan_out(made, samples, peers, rooms)
            say("fan-out by size")
            await fanout.by_size(made, samples, peers, rooms)
        say("a broker without its cache")
        await fanout.uncached(made, samples, rooms)
        await fanout.peak(made, samples, rooms)
        await removals.removals(made, samples)
        await growth.growth(made, samples)
        return made.recorder


async def main() -> None:
    """Measure, and write it down; a quick run is only printed."""
    logs.configure("warning", "console")
    samples, machine, since = Samples(), description(), time.monotonic()
    recorder = await measured(samples)
    text = document(samples, recorder, machine, time.monotonic() - since)
    print(text)
    if not IS_QUICK:
        (FOLDER / "results.md").write_text(text)
        draw(samples, FOLDER / "plots")


if __name__ == "__main__":
    asyncio.run(main())
