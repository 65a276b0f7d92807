"""A rig for requests: the key service alone on real servers, rooms in its database, and clients that ask."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import orjson
from nats.aio.client import Client

from roomkeys import subjects
from store.database import Database, Driver, connect
from store.setup.indexes import ensure_indexes
from tests.contract.stores import Commands
from tests.harness.site import PATIENCE, Rig
from worker.broker.connection import Broker
from worker.broker.connection import connect as connect_broker
from worker.clock import now_ms
from worker.key_service.service import answering
from worker.process.shutdown import Shutdown
from worker.settings import Settings

HOUR = timedelta(hours=1)
BATCH = ("results", "totalRequested", "totalSucceeded", "totalFailed", "timestamp")


def secret(room_id: str, version: int) -> bytes:
    """Return the key that the rooms of these tests have at a version."""
    return sha256(f"{room_id} {version}".encode()).digest()


def room(room_id: str, version: int, *, past: Iterable[int] = (), expired: Iterable[int] = ()) -> dict[str, Any]:
    """Return a room as `settle` leaves it, with replaced keys within and beyond their grace period."""
    now = datetime.now(UTC)
    keys = [(old, now - HOUR) for old in expired] + [(old, now + HOUR) for old in past]
    current = {"ver": version, "priv": secret(room_id, version)}
    replaced = [{"ver": old, "priv": secret(room_id, old), "until": until} for old, until in keys]
    return {
        "_id": room_id,
        "type": "channel",
        "userCount": 2,
        "appCount": 1,
        "encKey": {"priv": current["priv"], "ver": version},
        "keyRotation": {"high": version, "settled": version, "current": current, "past": replaced},
    }


@dataclass
class Asker:
    """A client of every account of a site."""

    client: Client
    site: str

    async def request(self, subject: str, body: object = b"") -> Any:
        """Ask, and return the reply as its text and its document."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        return orjson.loads((await self.client.request(subject, data, timeout=PATIENCE)).data)

    async def get(self, account: str, room_id: str, body: object = b"") -> Any:
        return await self.request(subjects.key_get(self.site, account, room_id), body)

    async def batch(self, account: str, body: object) -> Any:
        return await self.request(subjects.keys_batch(self.site, account), body)

    async def sync(self, account: str, body: object) -> Any:
        return await self.request(subjects.keys_sync(self.site, account), body)

    async def status(self, account: str, body: object) -> Any:
        return await self.request(subjects.status_batch(self.site, account), body)


@dataclass
class Asking(Asker):
    """The service of one site as well, and what its database was sent."""

    settings: Settings
    database: Database
    broker: Broker
    commands: Commands

    async def rooms(self, *documents: dict[str, Any], members: Iterable[str] = ("alice", "bob")) -> None:
        """Store rooms, each with these members."""
        if documents:
            await self.database["rooms"].insert_many(list(documents))
        accounts = list(members)
        memberships = [
            {"_id": f"{item['_id']}-{account}", "roomId": item["_id"], "u": {"account": account}}
            for item in documents
            for account in accounts
        ]
        if memberships:
            await self.database["subscriptions"].insert_many(memberships)


@asynccontextmanager
async def service(rig: Rig, driver: Driver = "pymongo", **changes: Any) -> AsyncIterator[Asking]:
    """Run the key service alone."""
    settings = rig.settings.model_copy(update=changes)
    commands = Commands()
    uri = settings.mongo_uri.get_secret_value()
    database = connect(uri, settings.mongo_db, driver, listeners=[commands])
    broker = await connect_broker(settings, "key service", limits=rig.limits)
    shutdown = Shutdown(asyncio.Event(), rig.limits.shutdown_s)
    try:
        await ensure_indexes(database)
        async with answering(settings, database, broker, rig.limits, now_ms, shutdown):
            commands.take()
            yield Asking(rig.nc, rig.site, settings, database, broker, commands)
    finally:
        await broker.close()
        await database.close()
