"""Leases, cursors and the fence, in the terms of docs/glossary.md. (docs/design.md, rules a and d)"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from bson.binary import UUID_SUBTYPE, Binary
from pymongo import UpdateOne

from roomkeys.errors import LeaseLost
from roomkeys.events.position import SliceProgress, StreamPosition
from store.database import SIMPLE, Database, Document, session_id
from store.errors import translated
from store.transaction import Bulk, update_one

CURSORS: Final = "room_worker_cursors"
SITES: Final = "room_worker_sites"
_TAKE_TIMEOUT_MS: Final = 2_000
_COMPLETE: Final = "cursorsCreated"
"""The field of a site's document that says that all its cursors have been created."""

_SLICE_FIELDS: Final = {
    "number": "number",
    "after": "after",
    "rotates": "rotates",
    "room_created": "founded",
    "notice_sent": "told",
}
"""Where a cursor document's `slice` has each attribute of a `SliceProgress`."""


class CursorsMissing(Exception):
    """Cursors of a site that has been served are missing: of the partitions `numbers`."""

    def __init__(self, numbers: list[int]) -> None:
        super().__init__(
            f"the cursors of the partitions {', '.join(map(str, numbers))} are missing from {CURSORS}: restore them "
            f"from a backup, or, to apply the stream again from its start, unset {_COMPLETE} in {SITES}"
        )


class PartitionsMismatch(Exception):
    """The site was first started with another number of partitions than this replica expects: with `stored`."""

    def __init__(self, stored: int) -> None:
        super().__init__(f"this site was started with {stored} partitions")
        self.stored = stored


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write for one partition, and the session that all its transactions use."""

    site: str
    partition: int
    owner: str
    epoch: int
    session: Any = field(repr=False)

    @property
    def id(self) -> str:
        """Return the cursor document's `_id`."""
        return cursor_id(self.site, self.partition)

    @property
    def fence(self) -> Document:
        """Return the filter that matches the cursor document only while this lease is valid."""
        return {"_id": self.id, "owner": self.owner, "epoch": self.epoch}


def cursor_id(site: str, partition: int) -> str:
    """Return the `_id` of a partition's cursor document. A site is a token, so it contains no dot."""
    return f"{site}.{partition}"


async def ensure_cursors(database: Database, site: str, partitions: int, start: StreamPosition) -> None:
    """Create the cursors of the site at its first start, where all of them begin at `start`.

    Raise `PartitionsMismatch` if the site was first started with another number of partitions, and `CursorsMissing`
    if cursors have been deleted since: a new one would have the events of its partition applied a second time.
    """
    with translated():
        first_start = {"$setOnInsert": {"partitions": partitions, **_position_fields(start)}}
        stored = await database[SITES].find_one_and_update(
            {"_id": site}, first_start, upsert=True, return_document=True, collation=SIMPLE
        )
        if stored["partitions"] != partitions:
            raise PartitionsMismatch(stored["partitions"])
        if stored.get(_COMPLETE) and (missing := await missing_cursors(database, site, partitions)):
            raise CursorsMissing(missing)
        new = (_new_cursor(site, number, 0, read_position(stored)) for number in range(partitions))
        await database[CURSORS].bulk_write(list(new), ordered=False)
        await database[SITES].update_one({"_id": site}, {"$set": {_COMPLETE: True}}, collation=SIMPLE)


async def missing_cursors(database: Database, site: str, partitions: int) -> list[int]:
    """Return the partitions without a cursor document."""
    found = {document["partition"] for document in await read_cursors(database, site)}
    return [number for number in range(partitions) if number not in found]


async def restore_cursor(
    database: Database, site: str, partitions: int, number: int, epoch: int, position: StreamPosition
) -> None:
    """Write the cursor of a partition again if it is gone, and the document of the site."""
    first_start = {"$setOnInsert": {"partitions": partitions, **_position_fields(position), _COMPLETE: True}}
    with translated():
        await database[SITES].update_one({"_id": site}, first_start, upsert=True, collation=SIMPLE)
        await database[CURSORS].bulk_write([_new_cursor(site, number, epoch, position)])


def _new_cursor(site: str, number: int, epoch: int, position: StreamPosition) -> UpdateOne:
    fields = {"site": site, "partition": number, "owner": None, "epoch": epoch, "session": None, "writes": 0}
    fields |= _position_fields(position)
    return update_one({"_id": cursor_id(site, number)}, {"$setOnInsert": fields}, upsert=True)


async def stored_partitions(database: Database, site: str) -> int | None:
    """Return the site's number of partitions, or None if it has never been started."""
    found = await database.find(SITES, {"_id": site}, {"partitions": 1})
    return found[0]["partitions"] if found else None


async def read_cursors(database: Database, site: str) -> list[Document]:
    """Return the site's cursor documents, in order of their partitions."""
    found = await database.find(CURSORS, {"site": site}, {})
    return sorted(found, key=lambda document: int(document["partition"]))


async def take_lease(database: Database, cursor: Document, owner: str) -> tuple[Lease, StreamPosition]:
    """Take a partition whose cursor document is `cursor`; return the lease and the position.

    Raise `LeaseLost` if another replica was faster. The previous owner's session is killed first: its open
    transaction would keep the lock of the document for more than a minute. (docs/pitfalls.md, item 29)
    """
    session = await database.start_session()
    # If the update failed, the document may still contain this session's id. Do not end the session then: the
    # driver would reuse its id, and the next take would kill an unrelated transaction. The server expires the
    # session after 30 minutes.
    with translated():
        document = await _take(database, cursor, owner, session)
    if document is None:
        await session.end_session()
        raise LeaseLost
    lease = Lease(document["site"], document["partition"], owner, document["epoch"], session)
    return lease, read_position(document)


async def _take(database: Database, cursor: Document, owner: str, session: Any) -> Document | None:
    if cursor["session"] is not None:
        previous = [{"id": Binary(bytes(cursor["session"]), UUID_SUBTYPE)}]
        await database.client.admin.command("killSessions", previous)
    update = {"$set": {"owner": owner, "session": session_id(session).bytes}, "$inc": {"epoch": 1}}
    taken: Document | None = await database[CURSORS].find_one_and_update(
        _as_read(cursor), update, session=session, return_document=True, maxTimeMS=_TAKE_TIMEOUT_MS, collation=SIMPLE
    )
    return taken


def is_lost(lease: Lease, document: Document) -> bool:
    """Tell whether the cursor document, as it was read, shows that the lease has been lost."""
    return bool(document["owner"] != lease.owner and document["epoch"] >= lease.epoch)


async def release_lease(database: Database, lease: Lease) -> None:
    """Give the lease up, so that another replica can take the partition at once."""
    update = {"$set": {"owner": None, "session": None}}
    with translated():
        await database[CURSORS].update_one(lease.fence, update, session=lease.session, collation=SIMPLE)


async def abandon_lease(database: Database, cursor: Document) -> None:
    """Remove the owner of a partition, whose cursor document is `cursor`, so that other replicas can take it.

    It needs no lease, so it can follow a failure. The session stays in the document for the next owner to kill.
    """
    with translated():
        await database[CURSORS].update_one(_as_read(cursor), {"$set": {"owner": None}}, collation=SIMPLE)


def _as_read(cursor: Document) -> Document:
    return {name: cursor[name] for name in ("_id", "epoch", "owner")}


async def move_cursor(database: Database, lease: Lease, before: StreamPosition, after: StreamPosition) -> None:
    """Move the cursor and write nothing else.

    The events in between belong to other partitions, or the stream was created again and continues at `after`.
    Raise `LeaseLost` if the lease is lost, or if the cursor is not at `before`.
    """
    with translated():
        fencing = _fencing(lease, before, after)
        updated = await database[CURSORS].update_one(*fencing, session=lease.session, collation=SIMPLE)
    if updated.matched_count != 1:
        raise LeaseLost


def fence(
    lease: Lease,
    before: StreamPosition | None = None,
    after: StreamPosition | None = None,
    versions: Iterable[int | None] = (),
) -> Bulk:
    """Return the first write of a transaction: the cursor document, moved to `after` if that is given.

    The cursor keeps the highest of all `versions` that rooms of the partition ever used, for rooms that are deleted.

    The transaction fails with `LeaseLost` if the lease is lost, or if the cursor is not at `before`. The document
    changes even if the cursor does not move: a fence that is only read would stop nobody. (docs/design.md, rule a)
    """
    expected, update = _fencing(lease, before, after)
    highest = max((version for version in versions if version is not None), default=None)
    if highest is not None:
        update["$max"] = {"highest": highest}
    return Bulk(CURSORS, [update_one(expected, update)], unmatched=LeaseLost())


def _fencing(lease: Lease, before: StreamPosition | None, after: StreamPosition | None) -> tuple[Document, Document]:
    expected = lease.fence
    if before is not None:
        number = None if before.slice is None else before.slice.number
        expected |= {"applied": before.sequence, "slice.number": number}
    move = {} if after is None else {"$set": _position_fields(after)}
    return expected, {"$inc": {"writes": 1}, **move}


def read_position(document: Document) -> StreamPosition:
    """Return the stream position in a cursor document, or in the document of the site."""
    stored, progress = document.get("slice"), None
    if stored is not None:
        # After a rollback it may have fields that only newer versions know.
        progress = SliceProgress(**{name: stored[field] for name, field in _SLICE_FIELDS.items() if field in stored})
    return StreamPosition(document["applied"], document["appliedNs"], document["createdNs"], progress)


def _position_fields(position: StreamPosition) -> Document:
    return {
        "applied": position.sequence,
        "appliedNs": position.time_ns,
        "createdNs": position.created_ns,
        "slice": None if position.slice is None else _slice_document(position.slice),
    }


def _slice_document(progress: SliceProgress) -> Document:
    return {field: getattr(progress, name) for name, field in _SLICE_FIELDS.items()}
