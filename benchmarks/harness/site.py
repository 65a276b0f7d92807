"""The servers of a run and its two sites, for this worker and for the Go worker, each with its database."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import uuid4

import aiohttp
import nats
import orjson
from nats.aio.client import Client
from pymongo import AsyncMongoClient

from benchmarks.harness import seed, wire
from benchmarks.harness.recording import Recording, recording
from benchmarks.harness.sizes import TEN
from roomkeys.subjects import event_subject, events_stream
from store.database import connect
from store.setup.indexes import ensure_indexes
from worker.broker import connection as brokers
from worker.broker.jetstream.bootstrap import bootstrap_streams
from worker.local.ports import HOST, free_port
from worker.local.servers import MongoServer, NatsServer
from worker.settings import read_settings

OURS: Final = "ours"
GO: Final = "go"
PYMONGO: Final = "pymongo"
"""This worker with the other MongoDB driver, on its own site."""

_PEOPLE: Final = 1_000
_WINDOW: Final = 500
_COUNT_SECONDS: Final = 30.0
"""Seconds by which the broker's own counts may be late."""


@dataclass(frozen=True, slots=True)
class Site:
    """The site of one worker. Its name is also the name of its database."""

    name: str
    nats_url: str
    mongo_uri: str
    db: Any
    nc: Client

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of a worker on this site."""
        return {
            "NATS_URL": self.nats_url,
            "MONGO_URI": self.mongo_uri,
            "MONGO_DB": self.name,
            "SITE_ID": self.name,
            "LOG_LEVEL": "warning",
        }

    async def publish(self, suffix: str, body: dict[str, Any]) -> None:
        """Publish one event, as a producer does."""
        headers = {"X-Request-ID": str(uuid4())}
        await self.nc.jetstream().publish(event_subject(self.name, suffix), orjson.dumps(body), headers=headers)

    async def publish_all(self, suffix: str, bodies: list[dict[str, Any]]) -> None:
        """Publish a backlog at once; return when the stream has stored it."""
        before = await self._stored()
        await asyncio.to_thread(_write_windows, self.nats_url, [_framed(self.name, suffix, body) for body in bodies])
        await _until(self._stored, before + len(bodies))

    async def _stored(self) -> int:
        """Return the last sequence of the stream."""
        return int((await self.nc.jetstream().stream_info(events_stream(self.name))).state.last_seq)

    async def put_back(self, prefix: str, count: int, first: int, members: int) -> None:
        """Make these accounts members of each of the rooms again."""
        await seed.memberships(self.db, self.name, prefix, count, members, first)
        await self.db.rooms.update_many({"_id": {"$regex": f"^{prefix}[0-9]+$"}}, {"$inc": {"userCount": members}})

    async def rooms_of_ten(self, prefix: str, count: int) -> list[str]:
        """Create rooms of ten members; return their ids."""
        return await seed.rooms(self.db, self.name, prefix, count, TEN)


async def _until(counted: Callable[[], Awaitable[int]], total: int) -> int:
    async with asyncio.timeout(_COUNT_SECONDS):
        while True:
            if (found := await counted()) >= total:
                return found
            await asyncio.sleep(0.01)


def _framed(site: str, suffix: str, body: dict[str, Any]) -> bytes:
    head = f"NATS/1.0\r\nX-Request-ID: {uuid4()}\r\n\r\n".encode()
    data = orjson.dumps(body)
    line = f"HPUB {event_subject(site, suffix)} {len(head)} {len(head) + len(data)}\r\n".encode()
    return line + head + data + b"\r\n"


def _write_windows(url: str, frames: list[bytes]) -> None:
    connection = wire.connect(url)
    for start in range(0, len(frames), _WINDOW):
        connection.sendall(b"".join(frames[start : start + _WINDOW]))
        wire.confirm(connection)
    connection.close()


@dataclass(frozen=True, slots=True)
class Bench:
    """What every scenario works with.

    `go` is the built Go program, or None where there is no Go. `monitor` is the monitoring URL of the broker.
    `uncached` is the URL and the monitoring URL of a second broker, which has no subject cache.
    """

    ours: Site
    theirs: Site
    recorder: Recording
    go: Path | None
    monitor: str
    uncached: tuple[str, str]

    def without_cache(self) -> "Bench":
        """Return the same bench with the broker that has no subject cache."""
        url, monitor = self.uncached
        return replace(self, ours=replace(self.ours, nats_url=url), monitor=monitor)

    def site(self, peer: str) -> Site:
        """Return the site of a worker."""
        return self.theirs if peer == GO else self.ours

    async def received(self) -> int:
        """Return how many messages the broker has received so far, by its own count."""
        async with aiohttp.ClientSession() as session, session.get(self.monitor) as response:
            return int((await response.json())["in_msgs"])

    async def received_until(self, total: int) -> int:
        """Wait until the broker has received this many messages; return its count."""
        return await _until(self.received, total)

    @property
    def workers(self) -> list[str]:
        """Return the workers that this machine can run."""
        return [OURS, PYMONGO] if self.go is None else [OURS, PYMONGO, GO]


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """Start the servers and the recorder, and prepare both sites."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        nats_server, monitor = await _broker(stack, folder / "nats")
        uncached, its_monitor = await _broker(stack, folder / "uncached", "no_sublist_cache: true")
        mongo_server = await stack.enter_async_context(MongoServer(folder / "mongo"))
        nc = await nats.connect(nats_server.url)
        stack.push_async_callback(nc.close)
        client: AsyncMongoClient[Any] = AsyncMongoClient(mongo_server.uri)
        stack.push_async_callback(client.close)
        ours, theirs = (Site(name, nats_server.url, mongo_server.uri, client[name], nc) for name in (OURS, GO))
        for site in (ours, theirs):
            await _prepare(site)
        # Go workers of this kind have an index for their count of bots.
        await theirs.db.subscriptions.create_index([("roomId", 1), ("u.isBot", 1)])
        recorder = await stack.enter_async_context(recording(nats_server.url))
        go = await asyncio.to_thread(_built, folder)
        yield Bench(ours, theirs, recorder, go, monitor, (uncached.url, its_monitor))


async def _broker(stack: AsyncExitStack, folder: Path, config: str = "") -> tuple[NatsServer, str]:
    """Start a broker; return it and its monitoring URL."""
    monitor = f"{HOST}:{free_port()}"
    server = await stack.enter_async_context(NatsServer(folder, config=f"http: {monitor}\n{config}"))
    return server, f"http://{monitor}/varz"


async def _prepare(site: Site) -> None:
    settings = read_settings(nats_url=site.nats_url, mongo_uri=site.mongo_uri, site_id=site.name)
    broker = await brokers.connect(settings, "set-up")
    await bootstrap_streams(broker, site.name)
    await broker.close()
    database = connect(site.mongo_uri, site.name)
    await ensure_indexes(database)
    await database.close()
    await seed.people(site.db, _PEOPLE)


def _built(folder: Path) -> Path | None:
    """Build the Go program. If that is impossible, print why and return None."""
    program = folder / "go-peer"
    try:
        built = subprocess.run(  # noqa: S603 - our own program
            ["go", "build", "-o", str(program), "."],  # noqa: S607 - the Go on the PATH
            cwd=Path(__file__).parents[1] / "go",
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        print("no Go on this machine; the Go rows are left out")
        return None
    if built.returncode:
        print(f"cannot build the Go program; the Go rows are left out: {built.stderr.strip()[-500:]}")
        return None
    return program
