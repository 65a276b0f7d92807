"""Drainers: a big room's staged key goes to its members page by page, beside the loop, which goes on meanwhile.

A drainer reads, sends and confirms, and writes nothing: the loop stays the only writer and settles the room
between two batches once the pass is over. What a batch owes to joiners the loop sends in that batch.
(design.md, "Big rooms")
"""

import asyncio
from collections.abc import Callable, Container, Iterable, KeysView, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from time import time_ns
from typing import Any, Final

from roomkeys.errors import TransientError, Unexpected
from roomkeys.keys import KeyRecord, RoomKey
from roomkeys.messages.room_key import RoomKeyEvent, marshal
from store.database import Database
from store.leases.lease import Lease
from store.reads.members import START, pages
from store.reads.snapshot import load_rooms
from worker.broker.backoff import jittered_backoff
from worker.broker.cancellation import cancel_and_wait
from worker.broker.connection import Broker
from worker.broker.fanout import Fanout
from worker.telemetry import metrics
from worker.telemetry.logs import logger

BIG_ROOM: Final = 50_000
"""Members from which a room is big: more than a few pages of survivors."""

CONCURRENT_PASSES: Final = 4
"""The most passes of a replica at once: each holds two pages of accounts in memory."""

WINDOW: Final = 16_384
"""Accounts that are sent before the broker confirms them: what others' messages wait behind is bounded."""

log = logger("drainers")


@dataclass(slots=True)
class Rollout:
    """A room whose staged key is on its way: its keys as the loop knows them, and the pass.

    `newcomers` have been written and not yet been told of their membership: the loop sends them the key, after
    that notice.
    """

    record: KeyRecord
    newcomers: set[str]
    task: asyncio.Task[None]


@dataclass(frozen=True, slots=True)
class PassContext:
    """What a pass works with; `slots` bounds how many there are."""

    broker: Broker
    database: Database
    fanout: Fanout
    slots: asyncio.Semaphore


class LargeRooms:
    """The rooms of one partition that are drained; `wake` is called when a pass is over."""

    def __init__(self, passes: PassContext, lease: Lease) -> None:
        self.wake: Callable[[], None] = lambda: None
        self._passes = passes
        self._lease = lease
        self._drains: dict[str, Rollout] = {}

    def __contains__(self, room_id: object) -> bool:
        return room_id in self._drains

    @property
    def rooms(self) -> KeysView[str]:
        """Return the rooms that are drained."""
        return self._drains.keys()

    def begin(self, room_id: str, record: KeyRecord) -> None:
        """Begin a pass for the staged key of the record; without one there is nothing to do."""
        if record.staged is not None:
            newcomers = set[str]()
            task = asyncio.create_task(self._pass(room_id, record.staged, newcomers))
            task.add_done_callback(lambda _: self.wake())
            self._drains[room_id] = Rollout(record, newcomers, task)

    async def update(self, room_id: str, record: KeyRecord) -> bool:
        """Take note of a drained room's keys as the batch in hand leaves them.

        False: the room was made anew, has another key staged or none, and is drained no longer.
        """
        drain = self._drains[room_id]
        if drain.record.staged == record.staged:
            drain.record = record
            return True
        await cancel_and_wait(self._drains.pop(room_id).task)
        return False

    def staged(self, room_ids: Iterable[str]) -> dict[str, RoomKey]:
        """Return the keys that are on their way to these rooms."""
        drains = ((room_id, self._drains.get(room_id)) for room_id in room_ids)
        return {
            room_id: drain.record.staged
            for room_id, drain in drains
            if drain is not None and drain.record.staged is not None
        }

    def exclude(self, room_id: str, accounts: Iterable[str]) -> None:
        """Leave newcomers of a drained room to the loop until `told`."""
        self._drains[room_id].newcomers.update(accounts)

    def newcomers_notified(self) -> None:
        """Note that everybody has been told of their membership."""
        for drain in self._drains.values():
            drain.newcomers.clear()

    def pop_finished(self) -> dict[str, KeyRecord]:
        """Return, and drain no longer, the rooms whose pass is over; raises what a pass has failed with."""
        over = {room_id: drain for room_id, drain in self._drains.items() if drain.task.done()}
        for room_id, drain in over.items():
            drain.task.result()
            del self._drains[room_id]
        return {room_id: drain.record for room_id, drain in over.items()}

    async def end(self) -> None:
        """End all passes; whoever has the partition next begins them anew."""
        for drain in self._drains.values():
            await cancel_and_wait(drain.task)
        self._drains.clear()

    async def _pass(self, room_id: str, key: RoomKey, newcomers: Container[str]) -> None:
        """Send the staged key to every member, however often servers are away meanwhile."""
        async with self._passes.slots:
            log.info("pass begins", room=room_id, version=key.version)
            session = await self._patiently(self._passes.database.start_session)
            try:
                one_pass = FanoutPass(self._passes, self._lease, room_id, key, newcomers)
                await self._patiently(lambda: one_pass.go_on(session))
            finally:
                await session.end_session()
            log.info("pass is over", room=room_id, version=key.version)

    async def _patiently(self, step: Callable[[], Any]) -> Any:
        attempt = 0
        while True:
            try:
                return await step()
            except (TransientError, Unexpected) as error:
                attempt += 1
                metrics.RETRIES.labels("pass").inc()
                log.warning("pass interrupted", cause=str(error))
            await self._passes.broker.until_connected()
            await asyncio.sleep(jittered_backoff(attempt))


class FanoutPass:
    """One pass through a room's members: where it is."""

    def __init__(
        self, passes: PassContext, lease: Lease, room_id: str, key: RoomKey, newcomers: Container[str]
    ) -> None:
        self._passes = passes
        self._lease = lease
        self._room_id = room_id
        self._newcomers = newcomers
        self._key = key
        self._payload = marshal(RoomKeyEvent(room_id, key), _now_ms())
        self._after: Any = START

    async def go_on(self, session: Any) -> None:
        """Send the payload to all members after the last one confirmed; `TransientError`: call again."""
        database = self._passes.database
        # The key is read before the members, in the members' session: whoever left before it was staged is gone.
        rooms = await load_rooms(database, [self._room_id], session)
        if self._room_id not in rooms or rooms[self._room_id].keys.staged != self._key:
            raise LookupError("the key that was staged is gone")
        members = pages(database, self._lease, [self._room_id], session=session, after=self._after)
        async with aclosing(members) as found:
            async for page in found:
                accounts = page[self._room_id]
                for start in range(0, len(accounts), WINDOW):
                    await self._send(accounts[start : start + WINDOW])

    async def _send(self, accounts: Sequence[Any]) -> None:
        """Send to accounts as they come from the database, and have it confirmed."""
        passes = self._passes
        mark = passes.broker.breaks
        recipients = [one for one in accounts if type(one) is not str or one not in self._newcomers]
        await passes.fanout.send({self._room_id: self._payload}, {self._room_id: recipients})
        if not await passes.broker.confirm(mark):
            raise TransientError("the broker did not confirm what was sent")
        self._after = accounts[-1]


def _now_ms() -> int:
    return time_ns() // 1_000_000
