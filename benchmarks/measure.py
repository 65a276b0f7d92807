"""What the worker does on this machine: four numbers, each measured on real servers, with every key counted.

    make measure

- recipients a second: one room of 100,000, from the staged key to the confirmed barrier
- removals a second: a backlog in rooms of ten, from the first result to the last
- latency: one rotation in a room of ten on an idle worker, from publish to its result
- memory: what the worker's process holds after the backlog, and its peak after a room of 100,000

Absolute numbers belong to the machine; they are printed with it.
"""

import asyncio
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.site import PATIENCE, Counter, Site, site
from roomkeys.keys import RoomKey
from store import cursors
from store.connect import connect
from store.cursors import Place
from worker import broker as brokers
from worker import logs
from worker.courier import Courier
from worker.fanout import Fanout

BIG_ROOM = 100_000
SMALL_ROOMS = 2_000
SMALL_ROOM = 10
REMOVALS = 4_000
SINGLES = 200
ROUNDS = 7


class Results:
    """The results of requests, and when each arrived."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        self._more = asyncio.Event()

    async def hear(self, message: Any) -> None:
        """Note a result."""
        self.at[message.subject.rpartition(".")[2]] = time.perf_counter()
        self._more.set()

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait for results until it is done."""
        async with asyncio.timeout(PATIENCE):
            while not done():
                self._more.clear()
                await self._more.wait()


async def fan_out(made: Site) -> None:
    """Send keys to a room of 100,000 through the path that the loop uses, and count what arrives."""
    (room_id,) = await made.seed(1, BIG_ROOM, "big")
    counter = Counter()
    await counter.listen(made.settings.nats_url[0], "chat.user.*.event.room.key")
    database = connect(made.settings.mongo_uri.get_secret_value(), made.settings.mongo_db)
    broker = await brokers.connect(made.settings, "measure")
    courier = Courier(broker, database, Fanout(broker, made.settings.key_fanout_workers), made.settings.site_id)
    await cursors.ensure_cursors(database, made.settings.site_id, 1, Place(0, 0, 0))
    lease, _ = await cursors.take(database, (await cursors.cursors(database, made.settings.site_id))[0], "measure")
    rates = []
    for version in range(1, ROUNDS + 1):
        since, mark = time.perf_counter(), broker.breaks
        await courier.fan_out({room_id: RoomKey.mint(version)}, lease, 0)
        if not await broker.confirm(mark):
            raise ConnectionError("the broker did not confirm a fan-out: nothing was measured")
        rates.append(BIG_ROOM / (time.perf_counter() - since))
        await counter.until(version * BIG_ROOM)
    print(f"recipients a second, one room of {BIG_ROOM:,}: {_spread(rates)}")
    print(f"    received {counter.received:,} of {ROUNDS * BIG_ROOM:,}")
    await lease.session.end_session()
    await broker.close()
    await database.close()


async def backlog(results: Results, rooms: list[str]) -> None:
    """Let the worker, which has just been started, work off the backlog."""
    await results.until(lambda: len(results.at) >= REMOVALS)
    times = sorted(results.at.values())
    rate = (REMOVALS - 1) / (times[-1] - times[0])
    print(
        f"removals a second, rooms of {SMALL_ROOM}, backlog of {REMOVALS:,} in {len(rooms):,} rooms: {rate:,.0f}"
    )


async def latency(made: Site, results: Results, rooms: list[str]) -> None:
    """Publish one event at a time."""
    delays = []
    for room_id in rooms[:SINGLES]:
        since = time.perf_counter()
        await answered(made, results, room_id)
        delays.append((time.perf_counter() - since) * 1_000)
    p99 = sorted(delays)[int(SINGLES * 0.99) - 1]
    print(f"latency of one event on an idle worker: p50 {statistics.median(delays):.1f} ms, p99 {p99:.1f} ms")


async def answered(made: Site, results: Results, room_id: str) -> None:
    """Rotate a room's key and wait for the result."""
    request_id = await made.publish("key.rotate", {"roomId": room_id, "requester": "m0"})
    await results.until(lambda: request_id in results.at)


async def events(made: Site) -> None:
    """Measure what needs a whole worker, and read its memory."""
    rooms = await made.seed(SMALL_ROOMS, SMALL_ROOM, "room")
    results = Results()
    await made.nc.subscribe("chat.user.*.response.*", cb=results.hear)
    for number in range(REMOVALS):
        body = {"requester": "m0", "account": f"m{1 + number // SMALL_ROOMS}"}
        await made.publish("member.remove", {"roomId": rooms[number % SMALL_ROOMS], **body})
    async with made.worker() as pid:
        await backlog(results, rooms)
        await latency(made, results, rooms)
        before = _memory(pid, "VmRSS")
        await answered(made, results, "big0")
        print(f"memory: {before:.0f} MiB after the backlog, peak {_memory(pid, 'VmHWM'):.0f} MiB", end="")
        print(f" after a room of {BIG_ROOM:,}")


def _memory(pid: int, which: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(which))


def _spread(values: list[float]) -> str:
    return f"median {statistics.median(values):,.0f}, from {min(values):,.0f} to {max(values):,.0f}"


async def main() -> None:
    """Measure everything once."""
    logs.configure("warning", "console")
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}; servers, counter and worker share it")
    async with site() as made:
        await fan_out(made)
        await events(made)


if __name__ == "__main__":
    asyncio.run(main())
