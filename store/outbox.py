"""The outbox: what batches owe, written with them and deleted once it has been paid.

An entry stands for one batch and room. After a crash everything that may not have gone out is here, with the
outcomes as they were decided: nothing is decided again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter

from roomkeys.decision import Owed
from store.connect import Database, Document
from store.cursors import Lease, cursor_id
from store.failures import translated

OUTBOX: Final = "room_worker_outbox"
_OWED: Final = TypeAdapter(Owed)


@dataclass(frozen=True, slots=True)
class Entry:
    """An outbox entry and its `_id`, which sorts by batch and, within it, by room."""

    id: str
    owed: Owed


def entries(lease: Lease, owed: Sequence[Owed], first_sequence: int) -> list[Entry]:
    """Return the entries of a batch whose first event has this stream sequence."""
    prefix = _prefix(lease.site, lease.partition)
    return [Entry(f"{prefix}{first_sequence:020d}.{at:06d}", item) for at, item in enumerate(owed)]


def entry_document(entry: Entry) -> Document:
    """Return an entry as a document."""
    return {"_id": entry.id, "owed": _OWED.dump_python(entry.owed)}


async def unpaid(database: Database, lease: Lease) -> list[Entry]:
    """Return what the partition owes, in the order in which it came to owe it."""
    prefix = _prefix(lease.site, lease.partition)
    query = {"_id": {"$gte": prefix, "$lt": prefix + "~"}}
    found = await database.find(OUTBOX, query, {"owed": 1}, lease.session)
    found.sort(key=lambda document: str(document["_id"]))
    return [Entry(document["_id"], _OWED.validate_python(document["owed"])) for document in found]


async def strike(database: Database, lease: Lease, ids: Iterable[str]) -> None:
    """Delete entries that have been paid; none: no call."""
    wanted = list(ids)
    if wanted:
        with translated():
            await database[OUTBOX].delete_many({"_id": {"$in": wanted}}, session=lease.session)


async def rooms_owed(database: Database, site: str) -> list[str]:
    """Return the rooms because of which any partition of the site owes something, in order."""
    # What follows a site in an id is a dot, which no site holds; the next character is a slash.
    query = {"_id": {"$gte": f"{site}.", "$lt": f"{site}/"}}
    found = await database.find(OUTBOX, query, {"owed.room_id": 1})
    return sorted({item["owed"]["room_id"] for item in found if item["owed"].get("room_id")})


def _prefix(site: str, partition: int) -> str:
    return f"{cursor_id(site, partition)}."
