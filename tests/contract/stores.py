"""The store under test: a database over one driver, the commands that it sends, and events to apply."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from roomkeys.decisions.decide import decide
from roomkeys.decisions.decision import Decision
from roomkeys.decisions.snapshot import Snapshot
from roomkeys.events.decode import decode, parse
from roomkeys.events.event import AnyEvent, StreamMessage
from roomkeys.events.position import StreamPosition
from roomkeys.keys import KeyRecord, RoomKey
from store.database import Database, Driver, connect
from store.documents import new_id
from store.errors import translated
from store.leases.lease import Lease, ensure_cursors, read_cursors, take_lease
from store.reads.snapshot import load_batch
from store.setup.indexes import ensure_indexes
from store.transaction import Bulk
from store.writes import outbox, settle
from store.writes.apply import apply
from store.writes.outbox import StoredEntry

SITE = "site-a"
AT = 1_747_000_000_000
START = StreamPosition(0, 0, 17)
DAY = 86_400_000


class Commands(CommandListener):
    """Records the commands that are sent, except those that keep connections alive."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name not in {"hello", "isMaster", "ping", "endSessions"}:
            self.sent.append(f"{event.command_name} {event.command.get(event.command_name)}")

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Do nothing: what was sent was counted."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Do nothing: what was sent was counted."""

    def take(self) -> Counter[str]:
        """Return how often each command was sent since the previous call."""
        sent, self.sent = self.sent, []
        return Counter(sent)


@dataclass
class Store:
    """One site in one database."""

    database: Database
    commands: Commands
    uri: str
    name: str
    driver: Driver

    async def lease(self, owner: str = "one", partition: int = 0) -> tuple[Lease, StreamPosition]:
        """Take a partition from whichever owner has it."""
        return await take_lease(self.database, (await self.cursors())[partition], owner)

    async def cursors(self) -> list[dict[str, Any]]:
        await ensure_cursors(self.database, SITE, 2, START)
        return await read_cursors(self.database, SITE)

    async def people(self, *accounts: str, **fields: Any) -> None:
        """Store users."""
        await self.database["users"].insert_many(
            [{"_id": f"u-{account}", "account": account, **fields} for account in accounts]
        )

    async def members(self, room_id: str, *accounts: object) -> None:
        """Store memberships."""
        documents = [
            {"_id": new_id(), "roomId": room_id, "u": {"_id": f"u-{account}", "account": account, "isBot": False}}
            for account in accounts
        ]
        await self.database["subscriptions"].insert_many([{**document, "roles": ["member"]} for document in documents])

    async def everything(self) -> dict[str, Any]:
        """Return all documents of all collections."""
        names = sorted(await self.database.db.list_collection_names())
        return {name: await self.database.find(name, {}, {}) for name in names}

    @asynccontextmanager
    async def another(self) -> AsyncIterator["Store"]:
        """Connect a second replica to the same database."""
        database = connect(self.uri, self.name, self.driver)
        try:
            yield Store(database, Commands(), self.uri, self.name, self.driver)
        finally:
            await database.close()


@asynccontextmanager
async def opened(uri: str, name: str, driver: Driver) -> AsyncIterator[Store]:
    """Connect over one driver and create the indexes."""
    commands = Commands()
    database = connect(uri, name, driver, listeners=[commands])
    try:
        await ensure_indexes(database)
        yield Store(database, commands, uri, name, driver)
    finally:
        await database.close()


def event(sequence: int, suffix: str, **fields: Any) -> AnyEvent:
    """Decode an event as the feed does."""
    body = orjson.dumps({"timestamp": AT, **fields})
    subject = f"chat.room.canonical.{SITE}.{suffix}"
    decoded = decode(StreamMessage(sequence, AT * 1_000_000, subject, body), parse(body))
    assert decoded is not None
    return decoded


def create(sequence: int, room_id: str, *users: str, **fields: Any) -> AnyEvent:
    body = {"roomId": room_id, "name": f"name of {room_id}", "users": users, "requesterAccount": "alice"}
    return event(sequence, "create", **{**body, **fields})


def remove(sequence: int, room_id: str, account: str) -> AnyEvent:
    return event(sequence, "member.remove", roomId=room_id, requester="alice", account=account)


def add(sequence: int, room_id: str, *users: str, **fields: Any) -> AnyEvent:
    return event(sequence, "member.add", roomId=room_id, requesterAccount="alice", users=users, **fields)


def rotate(sequence: int, room_id: str) -> AnyEvent:
    return event(sequence, "key.rotate", roomId=room_id, requester="alice")


@dataclass(frozen=True)
class Applied:
    """A batch after `apply`: the decision, the keys that it staged, and the position after it."""

    decision: Decision
    snapshot: Snapshot
    staged: dict[str, RoomKey]
    entries: list[StoredEntry]
    position: StreamPosition

    @property
    def records(self) -> dict[str, KeyRecord]:
        """Return the key records of the rooms that staged a key."""
        rooms = self.snapshot.rooms
        return {
            room_id: (rooms[room_id].keys if room_id in rooms else KeyRecord()).with_staged(key)
            for room_id, key in self.staged.items()
        }


async def apply_batch(
    store: Store,
    lease: Lease,
    before: StreamPosition,
    events: Sequence[AnyEvent],
    *,
    finished_ids: Sequence[str] = (),
    now: int = AT,
) -> Applied:
    """Read, decide and apply a batch as the loop does."""
    read = await load_batch(store.database, events, lease.session, page=16_384)
    decision = decide(events, read, site=SITE, now_ms=now, new_id=new_id)
    assert decision.taken == len(events), f"{decision.taken} of {len(events)} taken"
    last = events[-1].origin
    after = StreamPosition(last.sequence, last.time_ns, before.created_ns)
    staged = {change.room.id: RoomKey.generate(change.stage) for change in decision.changes if change.stage is not None}
    entries = outbox.stored_entries(lease, decision.entries, events[0].origin.sequence, before)
    await apply(
        store.database,
        lease,
        before=before,
        after=after,
        changes=decision.changes,
        staged=staged,
        entries=entries,
        finished_ids=finished_ids,
        now_ms=now,
    )
    return Applied(decision, read, staged, entries, after)


async def settle_batch(
    store: Store,
    lease: Lease,
    applied: Applied,
    *,
    now: int = AT,
    grace_ms: int = DAY,
    finished_ids: Sequence[str] = (),
) -> None:
    """Settle the keys that a batch staged, and delete finished outbox entries."""
    await settle.settle(
        store.database, lease, applied.records, {}, finished_ids=finished_ids, now_ms=now, grace_ms=grace_ms
    )


async def created(store: Store, *users: str, room_id: str = "r1") -> tuple[Any, StreamPosition]:
    """Create a room whose key has settled; return a lease and the position after it."""
    await store.people("alice", *users)
    lease, position = await store.lease()
    applied = await apply_batch(store, lease, position, [create(1, room_id, *users)])
    await settle_batch(store, lease, applied)
    return lease, applied.position


async def room(store: Store, room_id: str = "r1") -> dict[str, Any]:
    (found,) = await store.database.find("rooms", {"_id": room_id}, {})
    return found


@asynccontextmanager
async def begun(database: Database, session: Any, bulk: Bulk) -> AsyncIterator[None]:
    """Open a transaction, write the bulk, run the block, and commit."""
    with translated():
        if database.driver == "motor":
            session.start_transaction()
        else:
            await session.start_transaction()
        await database[bulk.collection].bulk_write(bulk.writes, session=session)
        yield
        await session.commit_transaction()
