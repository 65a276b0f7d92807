"""A site to measure: servers of its own, rooms written straight into the database, a producer, a counter."""

import asyncio
import os
import sys
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

from roomkeys.subjects import event_subject
from store.connect import connect
from store.indexes import ensure_indexes
from worker import broker as brokers
from worker.app import bootstrap_streams
from worker.servers import local_servers
from worker.settings import Settings, read_settings

PATIENCE = 120.0
USERS = 10


@dataclass
class Counter:
    """A subscriber on a socket of its own that only counts messages, and so is no bottleneck."""

    received: int = 0
    _more: asyncio.Event = field(default_factory=asyncio.Event)
    _counting: asyncio.Task[None] | None = None

    async def listen(self, url: str, subject: str) -> None:
        """Subscribe; returns once the server knows."""
        host, _, port = url.removeprefix("nats://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=2**22)
        await reader.readline()
        writer.write(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB ' + subject.encode() + b" 1\r\nPING\r\n")
        while await reader.readline() != b"PONG\r\n":
            pass
        self._counting = asyncio.create_task(self._count(reader, writer))

    async def _count(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        last = b"\r\n"
        while data := await reader.read(2**20):
            # A line may begin in one read and end in the next.
            self.received += (last + data).count(b"\r\nMSG ") - last.count(b"\r\nMSG ")
            last = (last + data)[-5:]
            if b"PING\r\n" in data:
                writer.write(b"PONG\r\n")
            self._more.set()

    async def until(self, count: int) -> None:
        """Wait until so many messages have come."""
        async with asyncio.timeout(PATIENCE):
            while self.received < count:
                self._more.clear()
                await self._more.wait()


@dataclass
class Site:
    """The settings of a site whose servers are up, its database, and a producer's connection."""

    settings: Settings
    db: Any
    nc: Client

    async def seed(self, rooms: int, members: int, prefix: str) -> list[str]:
        """Write rooms with members m0, m1, … straight into the database; return the rooms' ids."""
        ids = [f"{prefix}{number}" for number in range(rooms)]
        await self.db.rooms.insert_many([self._room(room_id, members) for room_id in ids])
        for start in range(0, rooms, 100):
            some = ids[start : start + 100]
            await self.db.subscriptions.insert_many(
                [_subscription(room_id, f"m{number}") for room_id in some for number in range(members)]
            )
        return ids

    def _room(self, room_id: str, members: int) -> dict[str, Any]:
        facts = {"_id": room_id, "name": room_id, "type": "channel", "siteId": self.settings.site_id}
        return {**facts, "userCount": members, "appCount": 0, "encKey": {"priv": bytes(32), "ver": 0}}

    async def publish(self, suffix: str, body: dict[str, Any]) -> str:
        """Publish an event; return its request id."""
        request_id = str(uuid4())
        subject = event_subject(self.settings.site_id, suffix)
        await self.nc.jetstream().publish(subject, orjson.dumps(body), headers={"X-Request-ID": request_id})
        return request_id

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[int]:
        """Run a worker in a process of its own; yields its process id."""
        environment = {
            **os.environ,
            "NATS_URL": self.settings.nats_url[0],
            "MONGO_URI": self.settings.mongo_uri.get_secret_value(),
            "SITE_ID": self.settings.site_id,
            "HEALTH_ADDR": "127.0.0.1:0",
            "METRICS_ADDR": "127.0.0.1:0",
            "LOG_LEVEL": "warning",
        }
        program = str(Path(sys.executable).parent / "room-worker")
        process = await asyncio.create_subprocess_exec(program, "run", env=environment)
        try:
            yield process.pid
        finally:
            process.terminate()
            await process.wait()


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    """Start servers in a temporary folder and make a site on them, with users m0 to m9."""
    with TemporaryDirectory() as folder:
        async with local_servers(Path(folder)) as (nats_server, mongo_server):
            settings = read_settings(nats_url=nats_server.url, mongo_uri=mongo_server.uri, site_id="measure")
            await _prepare(settings)
            nc = await nats.connect(nats_server.url)
            client: AsyncMongoClient[Any] = AsyncMongoClient(mongo_server.uri)
            db = client[settings.mongo_db]
            await db.users.insert_many(
                [{"_id": f"u-m{number}", "account": f"m{number}"} for number in range(USERS)]
            )
            yield Site(settings, db, nc)
            await nc.close()
            await client.close()


async def _prepare(settings: Settings) -> None:
    broker = await brokers.connect(settings, "set-up")
    await bootstrap_streams(broker, settings.site_id)
    await broker.close()
    database = connect(settings.mongo_uri.get_secret_value(), settings.mongo_db)
    await ensure_indexes(database)
    await database.close()


def _subscription(room_id: str, account: str) -> dict[str, Any]:
    user = {"_id": f"u-{account}", "account": account, "isBot": False}
    return {"_id": uuid4().hex, "u": user, "roomId": room_id, "roles": ["member"]}
