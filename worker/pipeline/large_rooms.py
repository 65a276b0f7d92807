"""Large rooms: a rollout brings the staged key to a room's members page by page, while the loop goes on.

A rollout reads, sends and confirms, and writes nothing. The loop stays the only writer: it settles the room
between two batches once the rollout is over. The loop also sends joiners their keys, in the batch that adds them.
(docs/design.md, "Large rooms")
"""

import asyncio
from collections.abc import Awaitable, Callable, Container, Iterable, KeysView, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from roomkeys.errors import TransientError
from roomkeys.keys import KeyRecord, RoomKey
from roomkeys.messages.room_key import RoomKeyEvent, marshal
from store.database import Database
from store.leases.lease import Lease
from store.reads.members import START, pages
from store.reads.snapshot import load_rooms
from worker.broker.cancellation import cancel_and_wait
from worker.broker.connection import Broker
from worker.broker.fanout import Fanout
from worker.clock import Clock
from worker.limits import Limits
from worker.pipeline.batch_sizer import conflict_backoff
from worker.telemetry import metrics
from worker.telemetry.logs import logger

log = logger("large_rooms")
_T = TypeVar("_T")


@dataclass(slots=True)
class Rollout:
    """A large room whose staged key is on its way: the room's keys as the loop knows them, and the task.

    `excluded` are joiners whose notice is not confirmed yet: they get the key from the loop, after the notice.
    """

    record: KeyRecord
    excluded: set[str]
    task: asyncio.Task[None]


@dataclass(frozen=True, slots=True)
class PassContext:
    """What every pass of a replica works with; `slots` bounds how many passes run at once."""

    broker: Broker
    database: Database
    fanout: Fanout
    slots: asyncio.Semaphore
    limits: Limits
    clock: Clock


class LargeRooms:
    """The rollouts of one partition; `wake` is called when one is over."""

    def __init__(self, context: PassContext, lease: Lease, wake: Callable[[], None]) -> None:
        self._context = context
        self._lease = lease
        self._wake = wake
        self._rollouts: dict[str, Rollout] = {}

    def __contains__(self, room_id: object) -> bool:
        return room_id in self._rollouts

    @property
    def room_ids(self) -> KeysView[str]:
        """Return the rooms in rollout."""
        return self._rollouts.keys()

    def begin(self, room_id: str, record: KeyRecord) -> None:
        """Begin a rollout of the record's staged key; do nothing if there is none."""
        if record.staged is not None:
            excluded = set[str]()
            task = asyncio.create_task(self._roll_out(room_id, record.staged, excluded))
            task.add_done_callback(lambda _: self._wake())
            self._rollouts[room_id] = Rollout(record, excluded, task)

    async def update(self, room_id: str, record: KeyRecord) -> bool:
        """Take over a room's keys as the batch in hand leaves them.

        False: the room was re-created, has another staged key or none, and its rollout has ended.
        """
        rollout = self._rollouts[room_id]
        if rollout.record.staged == record.staged:
            rollout.record = record
            return True
        await cancel_and_wait(self._rollouts.pop(room_id).task)
        return False

    def staged_keys(self, room_ids: Iterable[str]) -> dict[str, RoomKey]:
        """Return the keys that are on their way to those of these rooms that are in rollout."""
        keys = ((room_id, self._rollouts[room_id].record.staged) for room_id in room_ids if room_id in self._rollouts)
        return {room_id: key for room_id, key in keys if key is not None}

    def exclude(self, room_id: str, accounts: Iterable[str]) -> None:
        """Leave the joiners of a room in rollout to the loop until `joiners_notified`."""
        self._rollouts[room_id].excluded.update(accounts)

    def joiners_notified(self) -> None:
        """Note that the notice of every joiner is confirmed: rollouts may send them keys."""
        for rollout in self._rollouts.values():
            rollout.excluded.clear()

    def pop_finished(self) -> dict[str, KeyRecord]:
        """Return the rooms whose rollout is over, and forget them; raise the error of a rollout that failed."""
        finished = {room_id: rollout for room_id, rollout in self._rollouts.items() if rollout.task.done()}
        for room_id, rollout in finished.items():
            rollout.task.result()
            del self._rollouts[room_id]
        return {room_id: rollout.record for room_id, rollout in finished.items()}

    async def close(self) -> None:
        """End all rollouts; the next owner of the partition begins them again."""
        for rollout in self._rollouts.values():
            await cancel_and_wait(rollout.task)
        self._rollouts.clear()

    async def _roll_out(self, room_id: str, key: RoomKey, excluded: Container[str]) -> None:
        """Send the staged key to every member, through any number of outages."""
        async with self._context.slots:
            log.info("rollout started", room=room_id, version=key.version)
            session = await self._retry(self._context.database.start_session)
            try:
                payload = marshal(RoomKeyEvent(room_id, key), self._context.clock())
                fanout_pass = FanoutPass(self._context, self._lease, room_id, key, excluded, payload)
                await self._retry(lambda: fanout_pass.run(session))
            finally:
                await session.end_session()
            log.info("rollout finished", room=room_id, version=key.version)

    async def _retry(self, step: Callable[[], Awaitable[_T]]) -> _T:
        backoff = conflict_backoff()
        while True:
            try:
                return await step()
            except TransientError as error:
                metrics.RETRIES.labels("pass").inc()
                log.warning("rollout interrupted", cause=str(error))
            await self._context.broker.until_connected()
            await asyncio.sleep(backoff.next())


@dataclass(slots=True)
class FanoutPass:
    """One pass over a room's members; it knows the last account that the broker has confirmed."""

    context: PassContext
    lease: Lease
    room_id: str
    key: RoomKey
    excluded: Container[str]
    payload: bytes = field(repr=False)
    after: str | None = START

    async def run(self, session: Any) -> None:
        """Send the payload to all members after the last confirmed one; after a `TransientError` call it again."""
        database, limits = self.context.database, self.context.limits
        # The key is read before the members, in one session: accounts that left before it was staged are gone.
        rooms = await load_rooms(database, [self.room_id], session)
        if self.room_id not in rooms or rooms[self.room_id].keys.staged != self.key:
            raise LookupError("the staged key of a room in rollout is gone")
        members = pages(
            database,
            self.lease,
            [self.room_id],
            session=session,
            first=limits.first_page_accounts,
            most=limits.page_accounts,
            after=self.after,
        )
        async with aclosing(members) as found:
            async for page in found:
                accounts = page[self.room_id]
                for start in range(0, len(accounts), limits.window_accounts):
                    await self._send(accounts[start : start + limits.window_accounts])

    async def _send(self, accounts: Sequence[Any]) -> None:
        """Send to accounts as they come from the database, and wait for the confirmation."""
        recipients = [one for one in accounts if type(one) is not str or one not in self.excluded]
        async with self.context.broker.barrier():
            await self.context.fanout.send({self.room_id: self.payload}, {self.room_id: recipients})
        self.after = next((account for account in reversed(accounts) if isinstance(account, str)), self.after)
