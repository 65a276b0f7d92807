"""The outbox: what batches owe, written with them and deleted once it has been paid.

An entry stands for one batch and room. After a crash everything that may not have gone out is here, with the
outcomes as they were decided: nothing is decided again. An event that is applied in slices is kept here too
until its last one, so that it is finished although the stream may have lost it.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from pydantic import TypeAdapter
from pymongo import DeleteMany

from roomkeys.decisions.decision import OutboxEntry
from roomkeys.events.event import StreamMessage
from roomkeys.events.position import StreamPosition
from store.database import Database, Document
from store.leases.lease import Lease, cursor_id, fence
from store.transaction import Bulk, commit

OUTBOX: Final = "room_worker_outbox"
_OWED: Final = TypeAdapter(OutboxEntry)
_EVENT: Final = TypeAdapter(StreamMessage)


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An outbox entry and its `_id`, which sorts by lease, by batch, by slice and, within these, by room."""

    id: str
    owed: OutboxEntry


def entries(
    lease: Lease, owed: Sequence[OutboxEntry], first_sequence: int, before: StreamPosition
) -> list[StoredEntry]:
    """Return the entries of a batch, or of the slice that comes after `before`, by its first event's sequence.

    Sequences rise under one lease only: under another one the stream may have been made anew.
    """
    number = 0 if before.slice is None else before.slice.number
    prefix = f"{_prefix(lease)}{lease.epoch:010d}.{first_sequence:020d}.{number:06d}."
    return [StoredEntry(f"{prefix}{at:06d}", item) for at, item in enumerate(owed)]


def entry_document(entry: StoredEntry) -> Document:
    """Return an entry as a document; an error where it could not be read back, for recovery never gives up."""
    return {"_id": entry.id, "owed": _OWED.dump_python(entry.owed, warnings="error")}


def kept_id(lease: Lease) -> str:
    """Return the `_id` under which the partition keeps the event that it applies in slices."""
    return f"{_prefix(lease)}event"


def kept_document(lease: Lease, event: StreamMessage) -> Document:
    """Return an event to be kept as a document."""
    return {"_id": kept_id(lease), "event": _EVENT.dump_python(event)}


async def kept(database: Database, lease: Lease) -> StreamMessage | None:
    """Return the event that the partition applies in slices, if there is one."""
    found = await database.find(OUTBOX, {"_id": kept_id(lease)}, {"event": 1}, lease.session)
    return _EVENT.validate_python(found[0]["event"]) if found else None


async def unfinished(database: Database, lease: Lease, page: int) -> AsyncIterator[list[StoredEntry]]:
    """Yield what the partition owes, in the order in which it came to owe it, never of two leases at once."""
    prefix = _prefix(lease)
    # Digits sort before letters: the kept event stands after all entries.
    after, end = prefix, kept_id(lease)
    while True:
        query = {"_id": {"$gt": after, "$lt": end}}
        found = await database.find(OUTBOX, query, {"owed": 1}, lease.session, sort="_id", limit=page)
        for _, of_lease in groupby(found, key=_lease_of):
            yield [StoredEntry(document["_id"], _OWED.validate_python(document["owed"])) for document in of_lease]
        if len(found) < page:
            return
        after = found[-1]["_id"]


def delete_bulk(ids: Iterable[str]) -> Bulk:
    """Return the bulk that deletes entries that have been paid."""
    wanted = list(ids)
    return Bulk(OUTBOX, [DeleteMany({"_id": {"$in": wanted}})] if wanted else [])


async def delete_finished(database: Database, lease: Lease, ids: Iterable[str]) -> None:
    """Delete entries that have been paid; none: no call. Errors as those of `apply`.

    Fenced: the next owner may have sent some of what an entry owes again, and finds the rest only there.
    """
    bulk = delete_bulk(ids)
    if bulk.writes:
        await commit(database, lease.session, [fence(lease), bulk])


async def rooms_owed(database: Database, site: str) -> list[str]:
    """Return the rooms because of which any partition of the site owes something, in order."""
    # What follows a site in an id is a dot, which no site holds; the next character is a slash.
    query = {"_id": {"$gte": f"{site}.", "$lt": f"{site}/"}, "owed.room_id": {"$type": "string"}}
    found = await database.find(OUTBOX, query, {"owed.room_id": 1})
    return sorted({item["owed"]["room_id"] for item in found})


def _lease_of(document: Document) -> str:
    """Return the part of an entry's `_id` that names the lease: under another one sequences may begin anew."""
    lease: str = document["_id"].rsplit(".", 3)[0]
    return lease


def _prefix(lease: Lease) -> str:
    return f"{cursor_id(lease.site, lease.partition)}."
