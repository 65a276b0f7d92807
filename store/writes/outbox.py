"""The outbox: what batches owe, written in their transactions and deleted once it has been sent.

An entry stands for one batch and one room. After a crash, everything that may not have been sent is here, with the
outcomes as they were decided; nothing is decided again. The outbox also keeps the event that a partition applies
in slices, so that it can be completed even if the stream has lost it. (docs/design.md, The loop)
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from pydantic import TypeAdapter

from roomkeys.decisions.decision import OutboxEntry
from roomkeys.events.event import StreamMessage
from roomkeys.events.position import StreamPosition
from store.database import Database, Document
from store.leases.lease import Lease, fence
from store.transaction import Bulk, commit, delete_many

OUTBOX: Final = "room_worker_outbox"

_CONTENT: Final = TypeAdapter(OutboxEntry)
_EVENT: Final = TypeAdapter(StreamMessage)


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An outbox entry with its `_id`, which sorts by partition, lease, batch, slice and room, in this order."""

    id: str
    content: OutboxEntry


def stored_entries(
    lease: Lease, entries: Sequence[OutboxEntry], first_sequence: int, before: StreamPosition, retry: int | None = None
) -> list[StoredEntry]:
    """Return the entries of a batch, or of the slice after `before`, with their ids.

    `first_sequence` is the sequence of the first event. Sequences rise only under one lease: by the next one, the
    stream may have been created again. That is why the epoch comes first. Entries of events that have waited sort
    after everything up to the cursor; `retry` is their rising number under this lease.
    """
    number = f"{0 if before.slice is None else before.slice.number:06d}"
    if retry is not None:
        first_sequence, number = before.sequence, f"w{retry:08d}"
    prefix = f"{lease.id}.{lease.epoch:010d}.{first_sequence:020d}.{number}."
    return [StoredEntry(f"{prefix}{index:06d}", entry) for index, entry in enumerate(entries)]


def entry_document(entry: StoredEntry) -> Document:
    """Return an entry as a document. Raise an error if it could not be read back: recovery never gives up."""
    return {"_id": entry.id, "owed": _CONTENT.dump_python(entry.content, warnings="error")}


def kept_event_id(lease: Lease) -> str:
    """Return the `_id` under which the partition keeps the event that it applies in slices."""
    return f"{lease.id}.event"


def kept_event_document(lease: Lease, event: StreamMessage) -> Document:
    """Return the document that keeps an event."""
    return {"_id": kept_event_id(lease), "event": _EVENT.dump_python(event)}


async def kept_event(database: Database, lease: Lease) -> StreamMessage | None:
    """Return the event that the partition applies in slices, if there is one."""
    found = await database.find(OUTBOX, {"_id": kept_event_id(lease)}, {"event": 1}, lease.session)
    return _EVENT.validate_python(found[0]["event"]) if found else None


async def unfinished(database: Database, lease: Lease, page: int) -> AsyncIterator[list[StoredEntry]]:
    """Yield the partition's entries in order of their ids, up to `page` at a time, never of two leases at once."""
    # Digits sort before letters, so the kept event comes after all entries.
    after, end = f"{lease.id}.", kept_event_id(lease)
    while True:
        query = {"_id": {"$gt": after, "$lt": end}}
        found = await database.find(OUTBOX, query, {"owed": 1}, lease.session, sort="_id", limit=page)
        for _, in_order in groupby(found, key=lambda item: _stretch(item["_id"])):
            yield [StoredEntry(item["_id"], _CONTENT.validate_python(item["owed"])) for item in in_order]
        if len(found) < page:
            return
        after = found[-1]["_id"]


def delete_bulk(ids: Iterable[str]) -> Bulk:
    """Return the bulk that deletes these documents of the outbox."""
    wanted = list(ids)
    return Bulk(OUTBOX, [delete_many({"_id": {"$in": wanted}})] if wanted else [])


async def delete_finished(database: Database, lease: Lease, ids: Iterable[str]) -> None:
    """Delete finished entries; without ids, send no command. Errors are those of `store.writes.apply.apply`.

    The deletion is fenced: the next owner, who may be sending an entry again, finds the rest only in the outbox.
    """
    if (bulk := delete_bulk(ids)).writes:
        await commit(database, lease.session, [fence(lease), bulk])


async def unfinished_rooms(database: Database, site: str) -> list[str]:
    """Return, in order, the ids of the rooms that any partition of the site has entries for."""
    # An id begins with the site and a dot, and a site has no dot in it. A slash is the character after a dot.
    query = {"_id": {"$gte": f"{site}.", "$lt": f"{site}/"}, "owed.room_id": {"$type": "string"}}
    found = await database.find(OUTBOX, query, {"owed.room_id": 1})
    return sorted({item["owed"]["room_id"] for item in found})


def _stretch(entry_id: str) -> tuple[str, ...]:
    """Return what is equal for neighbouring entries whose sequences rise.

    The first part names the lease: under another one, sequences may start over. Events that have waited may be older
    than their neighbours.
    """
    lease, sequence, number, _ = entry_id.rsplit(".", 3)
    return (lease, sequence, number) if number.startswith("w") else (lease,)
