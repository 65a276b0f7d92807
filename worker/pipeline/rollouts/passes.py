"""Passes: one walk through the members of a room, or through some joiners, that sends and confirms a key.

A pass reads, sends and confirms, and writes nothing. After a `TransientError` it is run again, and goes on after what
the broker has confirmed.
"""

import asyncio
from collections.abc import Container, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from roomkeys.errors import TransientError
from roomkeys.keys import RoomKey
from roomkeys.messages.room_key import RoomKeyEvent, marshal
from store.database import Database
from store.leases.lease import Lease
from store.reads.members import START, pages, still_members
from store.reads.snapshot import load_rooms
from worker.broker.connection import Broker
from worker.broker.fanout import Fanout
from worker.broker.permissions.denials import named
from worker.broker.permissions.rights import denies_keys
from worker.clock import Clock
from worker.limits import Limits
from worker.telemetry import metrics
from worker.telemetry.logs import logger

_NAMED: Final = 20

log = logger("passes")


class Denied(TransientError):
    """The broker denied a key to every recipient; the text has its own words."""

    cause = "denied"


class DeniedRooms:
    """The rooms of this replica that wait because the broker denies their key to every recipient."""

    def __init__(self, broker: Broker) -> None:
        self._outage = broker.keys_denied
        self._rooms: set[str] = set()

    def add(self, room_id: str, cause: str) -> None:
        """Note a denied pass."""
        self._rooms.add(room_id)
        metrics.INTERRUPTIONS.labels("denied").inc()
        self._outage.failed(cause, rooms=len(self._rooms), waiting=list(islice(self._rooms, _NAMED)))

    def remove(self, room_id: str, *, is_delivered: bool) -> None:
        """Note that the room does not wait any more, if it did: its key was delivered, or the partition is left."""
        self._rooms.discard(room_id)
        if not self._rooms and is_delivered:
            self._outage.ended()
        elif not self._rooms:
            self._outage.cause = None


@dataclass(frozen=True, slots=True)
class PassContext:
    """What every pass of a replica works with.

    `slots` bounds how many passes run at once, and `retries` how many of those whose keys were denied.
    """

    broker: Broker
    database: Database
    fanout: Fanout
    slots: asyncio.Semaphore
    limits: Limits
    clock: Clock
    retries: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    denied_rooms: DeniedRooms = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "denied_rooms", DeniedRooms(self.broker))

    async def send(self, room_id: str, payload: bytes, recipients: Sequence[Any]) -> tuple[int, int]:
        """Send a payload to accounts as they come from the database; return how many it was sent and denied to."""
        async with self.broker.barrier() as confirmed:
            sent = await self.fanout.send({room_id: payload}, {room_id: recipients})
        if not confirmed.denied:
            return sent.get(room_id, 0), 0
        denied = confirmed.denied.intersection(one for one in recipients if type(one) is str)
        if denied:
            log.warning("the broker denied room keys", room=room_id, recipients=len(denied), accounts=named(denied))
        return sent.get(room_id, 0), len(denied)

    def denial(self) -> Denied:
        """Return the error of a pass that reached nobody."""
        return Denied(self.broker.last_denials["key"].text)


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
    reached: int = 0
    denied: int = 0

    async def run(self) -> None:
        """Send the payload to all members after the last confirmed one; after a `TransientError` call it again.

        Raise `Denied` if the broker denied the key to every member; the next call then begins with the first one.
        """
        session = await self.context.database.start_session()
        try:
            await self._send_pages(session)
        finally:
            await session.end_session()
        if self.denied and self.reached <= 0:
            self.after, self.reached, self.denied = START, 0, 0
            await denies_keys(self.context.broker)
            raise self.context.denial()

    async def _send_pages(self, session: Any) -> None:
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
        sent, denied = await self.context.send(self.room_id, self.payload, recipients)
        self.reached += sent - denied
        self.denied += denied
        self.after = next((account for account in reversed(accounts) if isinstance(account, str)), self.after)


@dataclass(slots=True)
class JoinerPass:
    """A pass over joiners who are `owed` the current key of their room; it removes those who are not any more."""

    context: PassContext
    lease: Lease
    room_id: str
    owed: dict[str, None]
    excluded: Container[str]

    async def run(self) -> None:
        """Send the key to all joiners who are still members; after a `TransientError` call it again.

        Raise `Denied` if the broker denies keys to everybody, and not only to these joiners.
        """
        session = await self.context.database.start_session()
        try:
            while self.owed:
                some = list(islice(self.owed, self.context.limits.window_accounts))
                await self._send(some, session)
                for account in some:
                    del self.owed[account]
        finally:
            await session.end_session()

    async def _send(self, joiners: Sequence[str], session: Any) -> None:
        """Send to those of the joiners who are still members; the key is read before the members."""
        context = self.context
        rooms = await load_rooms(context.database, [self.room_id], session)
        key = rooms[self.room_id].keys.current if self.room_id in rooms else None
        members = await still_members(context.database, {self.room_id: list(joiners)}, session, self.lease)
        recipients = [one for one in members.get(self.room_id, ()) if one not in self.excluded]
        if key is None or not recipients:
            return
        payload = marshal(RoomKeyEvent(self.room_id, key), context.clock())
        sent, denied = await context.send(self.room_id, payload, recipients)
        if denied and denied >= sent and await denies_keys(context.broker):
            raise context.denial()
