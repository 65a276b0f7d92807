"""The events of rooms that are set aside: the cursor has passed them, and the outbox collection keeps them, in order.

An event gets its document in the transaction that moves the cursor past it, and loses it in the one that writes its
effects or its rejection. So it takes effect exactly once. (docs/design.md, "Set-aside rooms")
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter
from pymongo import InsertOne

from roomkeys.errors import LeaseLost
from roomkeys.events.event import StreamMessage
from roomkeys.events.position import StreamPosition
from store.database import Database, Document
from store.leases.lease import Lease, fence
from store.transaction import Bulk, commit, update_one
from store.writes.outbox import OUTBOX

_EVENT: Final = TypeAdapter(StreamMessage)


@dataclass(frozen=True, slots=True)
class StoredWaiting:
    """An event that waits, with its room and its `_id`, which sorts by partition, lease and sequence, in this order.

    `tries` counts how often it was tried again, and `failures` how often it failed between two control
    transactions.
    """

    id: str
    room_id: str | None
    message: StreamMessage
    tries: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class SetAsideRoom:
    """A set-aside room: how many of its events wait, and how often the first one has failed so far."""

    room_id: str | None
    events: int
    failures: int


def waiting_id(lease: Lease, sequence: int) -> str:
    """Return the `_id` of an event that begins to wait under this lease."""
    return f"{lease.id}.waiting.{lease.epoch:010d}.{sequence:020d}"


def waiting_document(waiting: StoredWaiting) -> Document:
    """Return the document of an event that begins to wait."""
    event = _EVENT.dump_python(waiting.message)
    return {"_id": waiting.id, "waitingRoom": waiting.room_id, "event": event, "tries": 0, "failures": 0}


async def read_waiting(database: Database, lease: Lease) -> list[StoredWaiting]:
    """Return the partition's events that wait, in order."""
    prefix = f"{lease.id}.waiting."
    found = await database.find(OUTBOX, {"_id": {"$gt": prefix, "$lt": f"{prefix}~"}}, {}, lease.session, sort="_id")
    return [_read(item) for item in found]


def _read(item: Document) -> StoredWaiting:
    message = _EVENT.validate_python(item["event"])
    return StoredWaiting(item["_id"], item["waitingRoom"], message, item["tries"], item["failures"])


async def set_aside_rooms(database: Database, site: str) -> list[SetAsideRoom]:
    """Return the rooms that any partition of the site has set aside."""
    # An id begins with the site and a dot, and a site has no dot in it. A slash is the character after a dot.
    query = {"_id": {"$gte": f"{site}.", "$lt": f"{site}/"}, "waitingRoom": {"$exists": True}}
    found = await database.find(OUTBOX, query, {"waitingRoom": 1, "failures": 1}, sort="_id")
    rooms: dict[str | None, list[int]] = {}
    for item in found:
        rooms.setdefault(item["waitingRoom"], []).append(item["failures"])
    return [SetAsideRoom(room_id, len(failures), failures[0]) for room_id, failures in rooms.items()]


async def set_aside(
    database: Database, lease: Lease, before: StreamPosition, after: StreamPosition, waiting: Iterable[StoredWaiting]
) -> None:
    """Move the cursor from `before` to `after`, past events that wait from now on. Errors are those of `apply`."""
    documents = [InsertOne(waiting_document(one)) for one in waiting]
    await commit(database, lease.session, [fence(lease, before, after), Bulk(OUTBOX, documents)])


async def note_try(database: Database, lease: Lease, position: StreamPosition, waiting: StoredWaiting | None) -> None:
    """Store how often an event that waits was tried and has failed; the cursor stays at `position`.

    Without an event, only the fence is written. Errors are those of `apply`.
    """
    counts = []
    if waiting is not None:
        update = {"$set": {"tries": waiting.tries, "failures": waiting.failures}}
        counts = [update_one({"_id": waiting.id}, update)]
    noted = Bulk(OUTBOX, counts, unmatched=LeaseLost())
    await commit(database, lease.session, [fence(lease, position, position), noted])
