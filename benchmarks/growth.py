"""Growth: what an event costs as the backlog grows, and what the largest room costs a worker."""

import time

from benchmarks.accounts import REQUESTER
from benchmarks.child import cpu_seconds, forget_peak, peak_mib, resident_mib
from benchmarks.progress import say
from benchmarks.removals import NANOSECONDS, ROOMS_OF_TEN
from benchmarks.samples import Samples
from benchmarks.site import OURS, Bench
from benchmarks.sizes import SIZES, TEN
from benchmarks.workers import Worker, working


async def growth(bench: Bench, samples: Samples) -> None:
    """Measure this worker alone."""
    async with working(bench, OURS, "growing") as worker:
        for size in SIZES.backlogs:
            say(f"a backlog of {size:,}")
            for _ in range(SIZES.rounds if size < max(SIZES.backlogs) else 1):
                await _backlog(bench, samples, worker, size)
    say("the largest room")
    async with working(bench, OURS, "largest") as worker:
        await _largest(bench, samples, worker)


async def _backlog(bench: Bench, samples: Samples, worker: Worker, size: int) -> None:
    """Rotate keys of rooms of ten, one room after the other, as often as the backlog is long."""
    recorder = bench.recorder
    rooms = [f"{ROOMS_OF_TEN}{number % SIZES.rooms_of_ten}" for number in range(size)]
    worker.hold()
    try:
        bodies = [{"roomId": room_id, "requester": REQUESTER} for room_id in rooms]
        await bench.ours.publish_all("key.rotate", bodies)
        await recorder.forget()
        recorder.begin_until(size * TEN, size)
        before = cpu_seconds(worker.pid)
    finally:
        since = time.monotonic_ns()
        worker.let_go()
    answer = await recorder.until()
    seconds = (max(answer["result_ns"], answer["key_ns"]) - since) / NANOSECONDS
    samples.add("by backlog", "ours", size / seconds, size=size)
    samples.add("by backlog CPU", "ours", (cpu_seconds(worker.pid) - before) / size * 1_000_000, size=size)
    await recorder.check(size * TEN, results=size, once=False)


async def _largest(bench: Bench, samples: Samples, worker: Worker) -> None:
    """Rotate the key of the largest room, and see what the worker took for it."""
    recorder, members = bench.recorder, SIZES.peak_room
    room_id = f"of{members}-0"
    # The fan-outs that were measured alone have left a staged key behind.
    await bench.ours.db.rooms.update_one({"_id": room_id}, {"$unset": {"keyRotation": ""}})
    await recorder.forget()
    recorder.begin_until(members, 1)
    forget_peak(worker.pid)
    before = resident_mib(worker.pid)
    since = time.monotonic_ns()
    await bench.ours.publish("key.rotate", {"roomId": room_id, "requester": REQUESTER})
    answer = await recorder.until()
    samples.add("memory", "ours", peak_mib(worker.pid) - before)
    samples.add("largest", "ours", (answer["key_ns"] - since) / NANOSECONDS)
    await recorder.check(members, results=1)
