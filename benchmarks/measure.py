"""What the worker does on this machine: four numbers, each measured on real servers, with every key counted.

    make measure

- recipients a second: one room of 100,000, from the staged key to the confirmed barrier
- removals a second: a backlog in rooms of ten, from the first result to the last
- latency: one removal in a room of ten on an idle worker, from publish to its result
- memory: what the worker's process holds idle, and its peak after all of this

Absolute numbers belong to the machine; they are printed with it.
"""

import asyncio
import os
import platform
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import nats
import orjson
from nats.aio.client import Client
from pymongo import AsyncMongoClient

from roomkeys.keys import KeyRecord, RoomKey
from roomkeys.subjects import event_subject
from store.connect import connect
from store.indexes import ensure_indexes
from worker import broker as brokers
from worker.app import bootstrap_streams
from worker.courier import Courier
from worker.fanout import Fanout
from worker.servers import local_servers
from worker.settings import Settings, read_settings

BIG_ROOM = 100_000
SMALL_ROOMS = 2_000
SMALL_ROOM = 10
REMOVALS = 4_000
SINGLES = 200
ROUNDS = 5


@dataclass
class Recorder:
    """A subscriber on a socket of its own, which only counts messages: `rate` says how fast it can."""

    received: int = 0
    more: asyncio.Event = field(default_factory=asyncio.Event)

    async def listen(self, url: str, subject: str) -> asyncio.StreamWriter:
        host, _, port = url.removeprefix("nats://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=2**22)
        await reader.readline()
        writer.write(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB ' + subject.encode() + b" 1\r\nPING\r\n")
        while await reader.readline() != b"PONG\r\n":
            pass
        self._task = asyncio.create_task(self._count(reader, writer))
        return writer

    async def _count(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**20):
            self.received += data.count(b"\r\nMSG ") + data.startswith(b"MSG ")
            if b"PING\r\n" in data:
                writer.write(b"PONG\r\n")
            self.more.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(60):
            while self.received < count:
                self.more.clear()
                await self.more.wait()


@dataclass
class Site:
    """The servers, the settings, and a producer."""

    settings: Settings
    db: Any
    nc: Client

    async def seed(self, rooms: int, members: int, prefix: str) -> list[str]:
        """Write rooms with members straight into the database; return the rooms' ids."""
        ids = [f"{prefix}{number}" for number in range(rooms)]
        accounts = [f"m{number}" for number in range(members)]
        await self.db.rooms.insert_many(
            [
                {
                    "_id": room,
                    "name": room,
                    "type": "channel",
                    "siteId": self.settings.site_id,
                    "userCount": members,
                    "appCount": 0,
                    "encKey": {"priv": bytes(32), "ver": 0},
                }
                for room in ids
            ]
        )
        for start in range(0, rooms, 100):
            await self.db.subscriptions.insert_many(
                [
                    {
                        "_id": uuid4().hex,
                        "u": {"_id": f"u-{one}", "account": one, "isBot": False},
                        "roomId": room,
                        "roles": ["member"],
                    }
                    for room in ids[start : start + 100]
                    for one in accounts
                ]
            )
        return ids

    async def publish(self, suffix: str, body: dict[str, Any]) -> str:
        request_id = str(uuid4())
        headers = {"X-Request-ID": request_id}
        await self.nc.jetstream().publish(
            event_subject(self.settings.site_id, suffix), orjson.dumps(body), headers=headers
        )
        return request_id


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    with TemporaryDirectory() as folder:
        async with local_servers(Path(folder)) as (nats_server, mongo_server):
            settings = read_settings(
                nats_url=nats_server.url, mongo_uri=mongo_server.uri, site_id="measure", log_level="warning"
            )
            broker = await brokers.connect(settings, "set-up")
            await bootstrap_streams(broker, settings.site_id)
            await broker.close()
            nc = await nats.connect(nats_server.url)
            client: AsyncMongoClient[Any] = AsyncMongoClient(mongo_server.uri)
            database = connect(mongo_server.uri, settings.mongo_db)
            await ensure_indexes(database)
            await database.close()
            await client[settings.mongo_db].users.insert_many(
                [{"_id": f"u-m{number}", "account": f"m{number}"} for number in range(SMALL_ROOM)]
            )
            yield Site(settings, client[settings.mongo_db], nc)
            await nc.close()
            await client.close()


async def fan_out(made: Site) -> None:
    """Send one key to a room of 100,000, through the path that the loop uses, and count what arrives."""
    (room,) = await made.seed(1, BIG_ROOM, "big")
    recorder = Recorder()
    writer = await recorder.listen(made.settings.nats_url[0], "chat.user.*.event.room.key")
    database = connect(made.settings.mongo_uri.get_secret_value(), made.settings.mongo_db)
    broker = await brokers.connect(made.settings, "measure")
    courier = Courier(broker, database, Fanout(broker, made.settings.key_fanout_workers), made.settings.site_id)
    session = await database.start_session()
    rates = []
    for version in range(ROUNDS):
        record = KeyRecord(staged=RoomKey.mint(version))
        since = time.perf_counter()
        mark = broker.disconnects
        await courier.deliver([], {room: record}, session, 0)
        assert await broker.confirm(mark)
        rates.append(BIG_ROOM / (time.perf_counter() - since))
        await recorder.until((version + 1) * BIG_ROOM)
    assert recorder.received == ROUNDS * BIG_ROOM
    print(
        f"recipients a second, one room of {BIG_ROOM:,}: {_spread(rates)}; reach {recorder.received:,} of {ROUNDS * BIG_ROOM:,}"
    )
    writer.close()
    await session.end_session()
    await broker.close()
    await database.close()


@asynccontextmanager
async def worker(made: Site) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {
        **os.environ,
        "NATS_URL": made.settings.nats_url[0],
        "MONGO_URI": made.settings.mongo_uri.get_secret_value(),
        "SITE_ID": made.settings.site_id,
        "HEALTH_ADDR": "127.0.0.1:0",
        "METRICS_ADDR": "127.0.0.1:0",
        "LOG_LEVEL": "warning",
    }
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "room-worker"), "run", env=environment
    )
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()


async def removals_and_latency(made: Site) -> None:
    """Work off a backlog, then answer one event at a time; then read the process's memory."""
    rooms = await made.seed(SMALL_ROOMS, SMALL_ROOM, "room")
    results: dict[str, float] = {}
    arrived = asyncio.Event()

    async def hear(message: Any) -> None:
        results[message.subject.rpartition(".")[2]] = time.perf_counter()
        arrived.set()

    await made.nc.subscribe("chat.user.*.response.*", cb=hear)
    for number in range(REMOVALS):
        room, account = rooms[number % SMALL_ROOMS], f"m{1 + number // SMALL_ROOMS}"
        await made.publish("member.remove", {"roomId": room, "requester": "m0", "account": account})
    async with worker(made) as process:
        await _until(lambda: len(results) >= REMOVALS, arrived)
        times = sorted(results.values())
        print(
            f"removals a second, rooms of {SMALL_ROOM}, backlog of {REMOVALS:,}: {(REMOVALS - 1) / (times[-1] - times[0]):,.0f}"
        )
        idle = _memory(process.pid, "VmRSS")
        delays = []
        for number in range(SINGLES):
            since = time.perf_counter()
            request_id = await made.publish("key.rotate", {"roomId": rooms[number], "requester": "m0"})
            await _until(lambda wanted=request_id: wanted in results, arrived)  # type: ignore[misc]
            delays.append((results[request_id] - since) * 1000)
        delays.sort()
        print(
            f"latency of one event, idle worker: p50 {statistics.median(delays):.1f} ms, p99 {delays[int(SINGLES * 0.99) - 1]:.1f} ms"
        )
        request_id = await made.publish("key.rotate", {"roomId": "big0", "requester": "m0"})
        await _until(lambda: request_id in results, arrived)
        print(
            f"memory: {idle:.0f} MiB after the backlog, peak {_memory(process.pid, 'VmHWM'):.0f} MiB after a room of {BIG_ROOM:,}"
        )


async def _until(done: Any, arrived: asyncio.Event) -> None:
    async with asyncio.timeout(120):
        while not done():
            arrived.clear()
            await arrived.wait()


def _memory(pid: int, which: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(which))


def _spread(values: list[float]) -> str:
    return f"median {statistics.median(values):,.0f} (from {min(values):,.0f} to {max(values):,.0f})"


async def main() -> None:
    """Measure everything once."""
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, servers on the same machine"
    )
    async with site() as made:
        await fan_out(made)
        await removals_and_latency(made)


if __name__ == "__main__":
    asyncio.run(main())
