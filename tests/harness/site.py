"""A rig: the worker on real servers, a producer, and a recorder of everything that goes out."""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from uuid import uuid4

import nats
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from pymongo import AsyncMongoClient

from roomkeys import subjects
from tests.verification.oracle.recorder.listener import MARKS
from worker import app
from worker.clock import Clock, now_ms
from worker.limits import Limits
from worker.settings import Settings, read_settings

T = TypeVar("T")
PATIENCE = 30.0
AT = 1_747_000_000_000
"""When producers accept a request, unless a test says otherwise (epoch milliseconds)."""

SHORT_PAUSES = Limits(heartbeat_s=0.1, tidy_s=0.05)
"""The limits of workers in tests: a test that is not about these pauses does not wait for them."""


@dataclass(frozen=True, slots=True)
class Received:
    """One message that went out, decoded."""

    subject: str
    body: dict[str, Any]
    headers: dict[str, str]
    raw: bytes


@dataclass
class Rig:
    """One site: its producer, its database, and everything the worker ever published."""

    nc: Client
    db: Any
    settings: Settings
    limits: Limits = SHORT_PAUSES
    received: list[Received] = field(default_factory=list)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def limit(self, **changes: float) -> None:
        """Let workers that start from now on have other limits."""
        self.limits = replace(self.limits, **changes)  # type: ignore[arg-type]  # whole numbers are whole

    @property
    def site(self) -> str:
        return self.settings.site_id

    async def hear(self, message: Msg) -> None:
        if message.subject.startswith(("chat.room.canonical.", MARKS)):
            return
        try:
            body = orjson.loads(message.data)
        except orjson.JSONDecodeError:
            body = {}
        self.received.append(Received(message.subject, body, dict(message.headers or {}), message.data))
        if ".response." in message.subject:
            self.results.setdefault(message.subject.rpartition(".")[2], body)
        self.changed.set()

    async def publish(self, suffix: str, body: dict[str, Any] | bytes, *, request_id: str | None = None) -> str:
        """Publish an event as a producer does and return its request id."""
        return await self.publish_on(subjects.event_subject(self.site, suffix), body, request_id)

    async def publish_on(self, subject: str, body: dict[str, Any] | bytes, request_id: str | None = None) -> str:
        """Publish an event on another subject and return its request id."""
        request_id = request_id or str(uuid4())
        data = body if isinstance(body, bytes) else orjson.dumps({"timestamp": AT, **body})
        await self.nc.jetstream().publish(subject, data, headers={"X-Request-ID": request_id})
        return request_id

    async def ask(self, suffix: str, body: dict[str, Any] | bytes) -> dict[str, Any]:
        """Publish an event and return its result."""
        request_id = await self.publish(suffix, body)
        return await self.result(request_id)

    async def result(self, request_id: str, patience: float | None = None) -> dict[str, Any]:
        """Wait for the result of a request; the first one, if it was sent again."""
        await self.until(lambda: request_id in self.results, f"the result of {request_id}", patience)
        return self.results[request_id]

    async def until(self, look: Callable[[], T], what: str = "", patience: float | None = None) -> T:
        """Wait until `look` finds something in what was received."""
        try:
            async with asyncio.timeout(patience or PATIENCE):
                while not (found := look()):
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            seen = [item.subject for item in self.received[-20:]]
            raise AssertionError(f"nothing came of waiting for {what or look}; last received: {seen}") from None
        return found

    def keys(self, account: str, room_id: str | None = None) -> list[tuple[int, bytes]]:
        """Return the keys an account was sent, as (version, bytes), in order."""
        return [
            (item.body["version"], b64decode(item.body["privateKey"]))
            for item in self.received
            if item.subject == subjects.room_key(account) and room_id in {None, item.body["roomId"]}
        ]

    def of(self, subject: str) -> list[dict[str, Any]]:
        """Return the bodies received on a subject."""
        return [item.body for item in self.received if item.subject == subject]

    async def users(self, *accounts: str, **fields: Any) -> None:
        """Make users."""
        await self.db.users.insert_many(
            [{"_id": f"u-{account}", "account": account, "siteId": self.site, **fields} for account in accounts]
        )

    async def room(self, room_id: str) -> dict[str, Any]:
        """Return a room's document."""
        found = await self.db.rooms.find_one({"_id": room_id})
        assert found is not None, f"no room {room_id}"
        return dict(found)

    async def members(self, room_id: str) -> dict[str, dict[str, Any]]:
        """Return a room's subscriptions by account."""
        found = await self.db.subscriptions.find({"roomId": room_id}).to_list(None)
        return {item["u"]["account"]: item for item in found}

    async def until_owned(self) -> None:
        """Wait until every partition has an owner: the worker has found its place and reads."""
        cursors = self.db.room_worker_cursors
        async with asyncio.timeout(PATIENCE), await cursors.watch() as changes:
            while await cursors.count_documents({"owner": {"$ne": None}}) < self.settings.partitions:
                await changes.next()

    @asynccontextmanager
    async def worker(self, **changes: Any) -> AsyncIterator[asyncio.Event]:
        """Run a worker in this process, with another `clock` if it is among the changes; the event stops it early."""
        clock: Clock = changes.pop("clock", now_ms)
        stop, settings = asyncio.Event(), self.settings.model_copy(update=changes)
        task = asyncio.create_task(app.run(settings, stop, limits=self.limits, clock=clock))
        try:
            yield stop
        finally:
            stop.set()
            await asyncio.wait_for(task, PATIENCE)


@asynccontextmanager
async def rig(
    nats_url: str,
    mongo_uri: str,
    database: str,
    site: str,
    *,
    hears: Sequence[str] = ("chat.>",),
    replicas: int = 1,
    **changes: Any,
) -> AsyncIterator[Rig]:
    """Set up a site with its streams, each kept `replicas` times, and a recorder of the subjects it `hears`."""
    settings = read_settings(
        **{
            "nats_url": nats_url,
            "mongo_uri": mongo_uri,
            "mongo_db": database,
            "site_id": site,
            "bootstrap_streams": True,
            "health_addr": "127.0.0.1:0",
            "metrics_addr": "127.0.0.1:0",
            **changes,
        }
    )
    nc = await nats.connect(nats_url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    client: AsyncMongoClient[Any] = AsyncMongoClient(mongo_uri, serverMonitoringMode="poll", tz_aware=True)
    try:
        jetstream = nc.jetstream()
        for name, subject in (
            (subjects.events_stream(site), subjects.events_subjects(site)),
            (subjects.dead_letter_stream(site), subjects.dead_letter_subject(site)),
        ):
            await jetstream.add_stream(name=name, subjects=[subject], num_replicas=replicas)
        made = Rig(nc, client[database], settings)
        for subject in hears:
            await nc.subscribe(subject, cb=made.hear)
        await nc.flush()
        yield made
    finally:
        await nc.close()
        await client.close()
