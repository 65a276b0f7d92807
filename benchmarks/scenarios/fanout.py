"""Fan-out: one key to everybody in a room, from the call to the broker's confirmation; every peer in turn."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any, Final

from benchmarks.harness import seed
from benchmarks.harness.child import Child, child, forget_peak, peak_mib, resident_mib
from benchmarks.harness.recording import NotReached
from benchmarks.harness.site import GO, OURS, Bench
from benchmarks.harness.sizes import FIRST, SIZES
from benchmarks.report.samples import Samples

# What each peer's process is asked for, by the name under which its values are kept.
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
    """Run every peer's process, each on this worker's site, which they only read."""
    async with AsyncExitStack() as stack:
        made: dict[str, Child] = {}
        for name in ("ours", "idiomatic", "limit"):
            program = [sys.executable, "-m", "benchmarks.peers", name]
            made[name] = await stack.enter_async_context(child(name, program, bench.ours.environment))
        if bench.go is not None:
            program = [str(bench.go), "measure"]
            made[GO] = await stack.enter_async_context(child("go", program, bench.ours.environment))
        for process in made.values():
            await process.answer()
        yield made


async def rooms_by_size(bench: Bench) -> dict[int, list[str]]:
    """Make rooms of each size, as many as have the members of the big room together, at least one.

    Nobody is in two rooms of a size: the broker remembers some subjects, and would know those again.
    """
    rooms = {}
    for size in SIZES.recipients:
        count = max(SIZES.big_room // size, 1)
        rooms[size] = await seed.rooms(bench.ours.db, OURS, f"of{size}-", count, size, apart=True)
    return rooms


async def fan_out(bench: Bench, samples: Samples, made: dict[str, Child], rooms: dict[int, list[str]]) -> None:
    """Measure all peers in turn, some rounds."""
    big = rooms[SIZES.big_room]
    for number in range(SIZES.rounds + 1):
        kept = samples if number else Samples()  # the first round warms up
        for name, (process, step) in SENDING.items():
            if process in made:
                await _taken(bench, kept, name, made[process], step, big[0])
                await _sent(bench, kept, "received", name, made[process], step, big, SIZES.big_room)
        for name, (process, step) in FANNING.items():
            if process in made:
                await _sent(bench, kept, "fan-out", name, made[process], step, big, SIZES.big_room)
        for name, (process, step) in READING.items():
            if process in made:
                taken = await made[process].ask(do=step, rooms=big, members=SIZES.big_room, version=0, first=FIRST)
                _keep(kept, "read", name, taken, 0)


async def uncached(bench: Bench, samples: Samples, rooms: dict[int, list[str]]) -> None:
    """Measure sending to a broker without its cache of subjects, which a room's many accounts only fill."""
    other = bench.without_cache()
    async with peers(other) as made:
        for number in range(SIZES.rounds + 1):
            kept = samples if number else Samples()
            for name in ("ours", "Go", "limit", "limit, 4 connections"):
                process, step = SENDING[name]
                if process in made:
                    room_id = rooms[SIZES.big_room][0]
                    await _taken(other, kept, name, made[process], step, room_id, measure="uncached")


async def by_size(bench: Bench, samples: Samples, made: dict[str, Child], rooms: dict[int, list[str]]) -> None:
    """Measure what a recipient costs in rooms of every size, database and broker included."""
    for _ in range(SIZES.rounds):
        for size, of_size in rooms.items():
            await _sent(bench, samples, "by size", "ours", made["ours"], "fan_out", of_size, size, keep=size)


async def peak(bench: Bench, samples: Samples, rooms: dict[int, list[str]]) -> None:
    """Measure how much memory the Go program takes for the largest room."""
    if bench.go is None:
        return
    async with child("go", [str(bench.go), "measure"], bench.ours.environment) as process:
        await process.answer()
        forget_peak(process.pid)
        before = resident_mib(process.pid)
        await _sent(bench, samples, "largest", "Go", process, "fan_out", rooms[SIZES.peak_room], SIZES.peak_room)
        samples.add("memory", "Go", peak_mib(process.pid) - before)


async def _taken(
    bench: Bench,
    samples: Samples,
    name: str,
    process: Child,
    step: str,
    room_id: str,
    measure: str = "taken",
) -> None:
    """Let a peer send while nobody is subscribed, and require that the broker has taken every message."""
    messages = SIZES.big_room
    async with bench.recorder.nobody():
        before = await bench.taken()
        taken = await _asked(process, step, [room_id], messages)
        if step != "memcpy" and (sent := await bench.taken_until(before + messages) - before) != messages:
            raise NotReached(f"the broker has taken {sent} of {messages} messages")
    _keep(samples, measure, name, taken, 0)


async def _sent(  # noqa: PLR0913, PLR0917 - one measurement's name, and what is measured
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
    """Let a peer send to everybody, and require that everybody was reached."""
    if step == "memcpy":
        return
    recorder, expected = bench.recorder, members * len(rooms)
    await recorder.forget()
    taken = await _asked(process, step, rooms, members)
    recorder.begin_until(expected)
    recorder.note_load(await recorder.until(), taken["seconds"])
    await recorder.check(expected)
    _keep(samples, measure, name, taken, keep)


async def _asked(process: Child, step: str, rooms: Sequence[str], members: int) -> dict[str, Any]:
    return await process.ask(do=step, rooms=rooms, members=members, version=next(_VERSIONS), first=FIRST)


def _keep(samples: Samples, measure: str, name: str, taken: dict[str, Any], size: int) -> None:
    samples.add(measure, name, taken["count"] / taken["seconds"], size=size)
    samples.add(f"{measure} CPU", name, taken["cpu"] / taken["count"] * MICRO, size=size)


_VERSIONS: Final = count(1)
