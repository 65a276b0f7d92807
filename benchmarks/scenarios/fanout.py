"""Fan-out: one key to all members of a room, from the call to the broker's confirmation; all peers in turn."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any, Final

from benchmarks.harness import seed
from benchmarks.harness.child import Child, child, peak_mib, reset_peak, resident_mib
from benchmarks.harness.recording import NotReached
from benchmarks.harness.site import GO, OURS, Bench
from benchmarks.harness.sizes import FIRST, SIZES
from benchmarks.report.samples import Samples

# The name of each peer, with its process and the step that the process measures.
SENDING: Final = {
    "ours": ("ours", "send"),
    "Go": ("go", "send"),
    "nats-py, tasks": ("idiomatic", "tasks"),
    "nats-py, loop": ("idiomatic", "plain"),
    "limit": ("limit", "send"),
    "limit, 4 connections": ("limit", "send_over_all"),
    "memcpy": ("limit", "memcpy"),
}
READING: Final = {
    "ours": ("ours", "read"),
    "Go, projected": ("go", "read"),
    "Go, documents": ("go", "documents"),
    "Motor, documents": ("idiomatic", "documents"),
    "server": ("limit", "read"),
}
FANNING: Final = {"ours": ("ours", "fan_out"), "Go": ("go", "fan_out")}
MICRO: Final = 1_000_000


@asynccontextmanager
async def peers(bench: Bench) -> AsyncIterator[dict[str, Child]]:
    """Run the processes of all peers on the site of this worker, which they only read."""
    async with AsyncExitStack() as stack:
        children: dict[str, Child] = {}
        for name in ("ours", "idiomatic", "limit"):
            program = [sys.executable, "-m", "benchmarks.peers", name]
            children[name] = await stack.enter_async_context(child(name, program, bench.ours.environment))
        if bench.go is not None:
            program = [str(bench.go), "measure"]
            children[GO] = await stack.enter_async_context(child("go", program, bench.ours.environment))
        for process in children.values():
            await process.answer()
        yield children


async def rooms_by_size(bench: Bench) -> dict[int, list[str]]:
    """Create rooms of each size: at least one, and together about as many members as the large room has.

    No account is in two rooms of one size, because the broker caches subjects and would find them in its cache.
    """
    rooms = {}
    for size in SIZES.recipients:
        count = max(SIZES.large_room // size, 1)
        rooms[size] = await seed.rooms(bench.ours.db, OURS, f"of{size}-", count, size, apart=True)
    return rooms


async def fan_out(bench: Bench, samples: Samples, children: dict[str, Child], rooms: dict[int, list[str]]) -> None:
    """Measure all peers in turn, in several rounds."""
    large = rooms[SIZES.large_room]
    for number in range(SIZES.rounds + 1):
        kept = samples if number else Samples()  # the first round warms up
        for name, (process, step) in SENDING.items():
            if process in children:
                await _taken(bench, kept, name, children[process], step, large[0])
                await _sent(bench, kept, "received", name, children[process], step, large, SIZES.large_room)
        for name, (process, step) in FANNING.items():
            if process in children:
                await _sent(bench, kept, "fan-out", name, children[process], step, large, SIZES.large_room)
        for name, (process, step) in READING.items():
            if process in children:
                sample = await children[process].ask(
                    do=step, rooms=large, members=SIZES.large_room, version=0, first=FIRST
                )
                _keep(kept, "read", name, sample, 0)


async def uncached(bench: Bench, samples: Samples, rooms: dict[int, list[str]]) -> None:
    """Measure sending to a broker without a subject cache; many accounts only fill that cache."""
    other = bench.without_cache()
    async with peers(other) as children:
        for number in range(SIZES.rounds + 1):
            kept = samples if number else Samples()
            for name in ("ours", "Go", "limit", "limit, 4 connections"):
                process, step = SENDING[name]
                if process in children:
                    room_id = rooms[SIZES.large_room][0]
                    await _taken(other, kept, name, children[process], step, room_id, measure="uncached")


async def by_size(bench: Bench, samples: Samples, children: dict[str, Child], rooms: dict[int, list[str]]) -> None:
    """Measure the cost of a recipient in rooms of every size, from database to broker."""
    for _ in range(SIZES.rounds):
        for size, of_size in rooms.items():
            await _sent(bench, samples, "by size", "ours", children["ours"], "fan_out", of_size, size, keep=size)


async def peak(bench: Bench, samples: Samples, rooms: dict[int, list[str]]) -> None:
    """Measure the memory that the Go program needs for the largest room."""
    if bench.go is None:
        return
    async with child("go", [str(bench.go), "measure"], bench.ours.environment) as process:
        await process.answer()
        reset_peak(process.pid)
        before = resident_mib(process.pid)
        await _sent(bench, samples, "largest", "Go", process, "fan_out", rooms[SIZES.peak_room], SIZES.peak_room)
        samples.add("memory", "Go", peak_mib(process.pid) - before)


async def _taken(
    bench: Bench, samples: Samples, name: str, process: Child, step: str, room_id: str, measure: str = "taken"
) -> None:
    """Let a peer send without a subscriber, and require that the broker has received every message."""
    messages = SIZES.large_room
    async with bench.recorder.unsubscribed():
        before = await bench.received()
        sample = await _measured(process, step, [room_id], messages)
        if step != "memcpy" and (sent := await bench.received_until(before + messages) - before) != messages:
            raise NotReached(f"the broker has received {sent} of {messages} messages")
    _keep(samples, measure, name, sample, 0)


async def _sent(  # noqa: PLR0913, PLR0917 - the name of a measurement, and what it measures
    bench: Bench,
    samples: Samples,
    measure: str,
    name: str,
    process: Child,
    step: str,
    rooms: Sequence[str],
    members: int,
    keep: int = 0,
) -> None:
    """Let a peer send to all members, and require that all of them were reached."""
    if step == "memcpy":
        return
    recorder, expected = bench.recorder, members * len(rooms)
    await recorder.reset()
    sample = await _measured(process, step, rooms, members)
    recorder.begin_until(expected)
    recorder.note_load(await recorder.until(), sample["seconds"])
    await recorder.check(expected)
    _keep(samples, measure, name, sample, keep)


async def _measured(process: Child, step: str, rooms: Sequence[str], members: int) -> dict[str, Any]:
    return await process.ask(do=step, rooms=rooms, members=members, version=next(_VERSIONS), first=FIRST)


def _keep(samples: Samples, measure: str, name: str, sample: dict[str, Any], size: int) -> None:
    samples.add(measure, name, sample["count"] / sample["seconds"], size=size)
    samples.add(f"{measure} CPU", name, sample["cpu"] / sample["count"] * MICRO, size=size)


_VERSIONS: Final = count(1)
