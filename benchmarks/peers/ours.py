"""This project's own steps, through the functions that the worker calls."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.harness.accounts import accounts
from roomkeys.events.position import StreamPosition
from roomkeys.keys import RoomKey
from roomkeys.messages.room_key import RoomKeyEvent, marshal
from store.database import Database, connect
from store.documents import key_document
from store.leases import lease as cursors
from store.leases.lease import Lease
from store.reads.members import pages
from store.reads.snapshot import load_rooms
from worker.broker import connection as brokers
from worker.broker.connection import Broker
from worker.broker.fanout import Fanout
from worker.pipeline.deliver import Publisher
from worker.pipeline.large_rooms import BIG_ROOM, CONCURRENT_PASSES, LargeRooms, PassContext
from worker.settings import read_settings

_SITE: Final = "measure"
_Step = Callable[[], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Ours:
    """The steps that can be measured; `prepare` does what is ready beforehand in real life."""

    database: Database
    broker: Broker
    courier: Publisher
    lease: Lease

    async def send(self, asked: dict[str, Any]) -> _Step:
        """Frame and send one key to accounts that are in memory."""
        room_id, recipients = asked["rooms"][0], accounts(asked["members"])
        event = RoomKeyEvent(room_id, RoomKey.generate(asked["version"]))

        async def sent() -> int:
            mark = self.broker.breaks
            await self.courier.fanout.send({room_id: marshal(event, 0)}, {room_id: recipients})
            await self._confirm(mark)
            return len(recipients)

        return sent

    async def fan_out(self, asked: dict[str, Any]) -> _Step:
        """Send staged keys to everybody in the database, as the loop does or as a drainer does."""
        rooms, size = asked["rooms"], asked["members"]
        return await (self._drain(rooms, size, asked) if size > BIG_ROOM else self._deliver(rooms, size, asked))

    async def read(self, asked: dict[str, Any]) -> _Step:
        """Read the accounts of a room."""

        async def found() -> int:
            return sum(
                [len(page[asked["rooms"][0]]) async for page in pages(self.database, self.lease, asked["rooms"])]
            )

        return found

    async def _deliver(self, rooms: Sequence[str], size: int, asked: dict[str, Any]) -> _Step:
        keys = {room_id: RoomKey.generate(asked["version"]) for room_id in rooms}

        async def delivered() -> int:
            mark = self.broker.breaks
            await self.courier.fan_out_keys(keys, {}, self.lease, 0)
            await self._confirm(mark)
            return size * len(rooms)

        return delivered

    async def _drain(self, rooms: Sequence[str], size: int, asked: dict[str, Any]) -> _Step:
        key = RoomKey.generate(asked["version"])
        staged = {"$set": {"keyRotation": {"high": key.version, "staged": key_document(key)}}}
        await self.database["rooms"].update_many({"_id": {"$in": rooms}}, staged)
        found = await load_rooms(self.database, rooms, self.lease.session)
        passes = PassContext(self.broker, self.database, self.courier.fanout, asyncio.Semaphore(CONCURRENT_PASSES))

        async def drained() -> int:
            drainers, over = LargeRooms(passes, self.lease), asyncio.Event()
            drainers.wake = over.set
            for room in found.values():
                drainers.begin(room.id, room.keys)
            finished = 0
            while finished < len(found):
                await over.wait()
                over.clear()
                await asyncio.sleep(0)  # a pass wakes us as its last act, and is over after that
                finished += len(drainers.pop_finished())
            return size * len(found)

        return drained

    async def _confirm(self, mark: int) -> None:
        if not await self.broker.confirm(mark):
            raise ConnectionError("the broker did not confirm a fan-out: nothing was measured")


@asynccontextmanager
async def peer() -> AsyncIterator[dict[str, Any]]:
    """Connect, take a partition, and offer what can be measured."""
    settings = read_settings()
    database = connect(settings.mongo_uri.get_secret_value(), settings.mongo_db)
    broker = await brokers.connect(settings, "measure")
    courier = Publisher(broker, database, Fanout(broker, settings.key_fanout_workers), _SITE)
    await cursors.ensure_cursors(database, _SITE, 1, StreamPosition(0, 0, 0))
    lease, _ = await cursors.take(database, (await cursors.cursors(database, _SITE))[0], "measure")
    ours = Ours(database, broker, courier, lease)
    yield {"send": ours.send, "fan_out": ours.fan_out, "read": ours.read}
    await lease.session.end_session()
    await broker.close()
    await database.close()
