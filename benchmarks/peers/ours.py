"""The steps of this worker, through the functions that the worker itself calls."""

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
from store.leases.lease import Lease, ensure_cursors, read_cursors, take_lease
from store.reads.members import pages
from store.reads.snapshot import load_rooms
from worker.broker import connection as brokers
from worker.broker.connection import Broker
from worker.broker.fanout import Fanout
from worker.clock import now_ms
from worker.limits import Limits
from worker.pipeline.deliver import Publisher
from worker.pipeline.rollouts.large_rooms import LargeRooms
from worker.pipeline.rollouts.passes import PassContext
from worker.settings import read_settings

_SITE: Final = "measure"
_LIMITS: Final = Limits()
_Step = Callable[[], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Ours:
    """The steps that can be measured. Each method does the preparation and returns the step."""

    database: Database
    broker: Broker
    publisher: Publisher
    lease: Lease

    async def send(self, request: dict[str, Any]) -> _Step:
        """Frame and send one key to accounts in memory."""
        room_id, recipients = request["rooms"][0], accounts(request["members"])
        event = RoomKeyEvent(room_id, RoomKey.generate(request["version"]))

        async def sent() -> int:
            async with self.broker.barrier():
                await self.publisher.fanout.send({room_id: marshal(event, 0)}, {room_id: recipients})
            return len(recipients)

        return sent

    async def fan_out(self, request: dict[str, Any]) -> _Step:
        """Send staged keys to all members in the database, as the loop does or as a pass through a large room."""
        rooms, size = request["rooms"], request["members"]
        return await (
            self._roll_out(rooms, size, request)
            if size > _LIMITS.large_room_members
            else self._deliver(rooms, size, request)
        )

    async def read(self, request: dict[str, Any]) -> _Step:
        """Read the accounts of a room."""

        async def found() -> int:
            first, most = _LIMITS.first_page_accounts, _LIMITS.page_accounts
            members = pages(self.database, self.lease, request["rooms"], first=first, most=most)
            return sum([len(page[request["rooms"][0]]) async for page in members])

        return found

    async def _deliver(self, rooms: Sequence[str], size: int, request: dict[str, Any]) -> _Step:
        keys = {room_id: RoomKey.generate(request["version"]) for room_id in rooms}

        async def delivered() -> int:
            async with self.broker.barrier():
                await self.publisher.fan_out_keys(keys, {}, self.lease, 0)
            return size * len(rooms)

        return delivered

    async def _roll_out(self, rooms: Sequence[str], size: int, request: dict[str, Any]) -> _Step:
        key = RoomKey.generate(request["version"])
        staged = {"$set": {"keyRotation": {"high": key.version, "staged": key_document(key)}}}
        await self.database["rooms"].update_many({"_id": {"$in": rooms}}, staged)
        found = await load_rooms(self.database, rooms, self.lease.session)
        passes = PassContext(
            self.broker,
            self.database,
            self.publisher.fanout,
            asyncio.Semaphore(_LIMITS.concurrent_passes),
            _LIMITS,
            now_ms,
        )

        async def rolled_out() -> int:
            ended = asyncio.Event()
            large_rooms = LargeRooms(passes, self.lease, ended.set)
            for room in found.values():
                large_rooms.begin(room.id, room.keys)
            finished = 0
            while finished < len(found):
                await ended.wait()
                ended.clear()
                await asyncio.sleep(0)  # a pass sets the event just before its task ends
                finished += len(large_rooms.pop_finished())
            return size * len(found)

        return rolled_out


@asynccontextmanager
async def peer() -> AsyncIterator[dict[str, Any]]:
    """Connect, take a partition, and return the steps that can be measured."""
    settings = read_settings()
    database = connect(settings.mongo_uri.get_secret_value(), settings.mongo_db)
    broker = await brokers.connect(settings, "measure")
    publisher = Publisher(broker, database, Fanout(broker, settings.key_fanout_workers), _SITE, _LIMITS)
    await ensure_cursors(database, _SITE, 1, StreamPosition(0, 0, 0))
    lease, _ = await take_lease(database, (await read_cursors(database, _SITE))[0], "measure")
    ours = Ours(database, broker, publisher, lease)
    yield {"send": ours.send, "fan_out": ours.fan_out, "read": ours.read}
    await lease.session.end_session()
    await broker.close()
    await database.close()
