"""Growth: the cost of an event as the backlog grows, and the memory that the largest room costs a worker."""

import time
from itertools import count, islice
from typing import Final

from benchmarks.harness.accounts import REQUESTER
from benchmarks.harness.child import cpu_seconds, peak_mib, reset_peak, resident_mib
from benchmarks.harness.site import OURS, Bench, Site
from benchmarks.harness.sizes import SIZES, TEN
from benchmarks.harness.workers import Worker, working
from benchmarks.report.progress import say
from benchmarks.report.samples import Samples
from benchmarks.scenarios.removals import NANOSECONDS

_ROOMS: Final = "turn"
_COUNT: Final = max(SIZES.backlogs)


async def prepare(site: Site) -> None:
    """Create as many rooms as the longest backlog has events."""
    await site.rooms_of_ten(_ROOMS, _COUNT)


async def growth(bench: Bench, samples: Samples) -> None:
    """Measure this worker; it has no peers here."""
    # A room that has rotated keeps its old key, which makes the next rotation more expensive. So take turns.
    turns = (f"{_ROOMS}{number % _COUNT}" for number in count())
    async with working(bench, OURS, "growing") as worker:
        for size in SIZES.backlogs:
            say(f"a backlog of {size:,}")
            for _ in range(_rounds(size)):
                await _backlog(bench, samples, worker, list(islice(turns, size)))
    say("the largest room")
    async with working(bench, OURS, "largest") as worker:
        await _largest(bench, samples, worker)


def _rounds(size: int) -> int:
    """Return how often to measure a backlog. The shortest takes a fifth of a second and varies most."""
    return {min(SIZES.backlogs): 5 * SIZES.rounds, max(SIZES.backlogs): 1}.get(size, SIZES.rounds)


async def _backlog(bench: Bench, samples: Samples, worker: Worker, rooms: list[str]) -> None:
    """Rotate the key of each of these rooms of ten."""
    recorder, size = bench.recorder, len(rooms)
    worker.pause()
    try:
        bodies = [{"roomId": room_id, "requester": REQUESTER} for room_id in rooms]
        await bench.ours.publish_all("key.rotate", bodies)
        await recorder.reset()
        recorder.begin_until(size * TEN, size)
        before = cpu_seconds(worker.pid)
    finally:
        since = time.monotonic_ns()
        worker.resume()
    answer = await recorder.until()
    seconds = (max(answer["result_ns"], answer["key_ns"]) - since) / NANOSECONDS
    samples.add("by backlog", "ours", size / seconds, size=size)
    samples.add("by backlog CPU", "ours", (cpu_seconds(worker.pid) - before) / size * 1_000_000, size=size)
    await recorder.check(size * TEN, results=size, once=False)


async def _largest(bench: Bench, samples: Samples, worker: Worker) -> None:
    """Rotate the key of the largest room, and measure the memory and time that the worker needs."""
    recorder, members = bench.recorder, SIZES.peak_room
    room_id = f"of{members}-0"
    # The measurements of the fan-out alone have left a staged key.
    await bench.ours.db.rooms.update_one({"_id": room_id}, {"$unset": {"keyRotation": ""}})
    await recorder.reset()
    recorder.begin_until(members, 1)
    reset_peak(worker.pid)
    before = resident_mib(worker.pid)
    since = time.monotonic_ns()
    await bench.ours.publish("key.rotate", {"roomId": room_id, "requester": REQUESTER})
    answer = await recorder.until()
    samples.add("memory", "ours", peak_mib(worker.pid) - before)
    samples.add("largest", "ours", (answer["key_ns"] - since) / NANOSECONDS)
    await recorder.check(members, results=1)
