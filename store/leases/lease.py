"""Cursors and leases: how far each partition has come, and who may move it.

A cursor document is the partition's fence. Whoever takes the partition raises its epoch, and every
transaction of the loop begins by writing this document under its owner, epoch and place, so that a former
owner's transaction can only fail. A fence that is merely read does not stop it. (design.md, rules a and d)
"""

from dataclasses import dataclass, field
from typing import Any, Final

from bson.binary import UUID_SUBTYPE, Binary
from pymongo import UpdateOne

from roomkeys.errors import LeaseLost
from roomkeys.events.position import SliceProgress, StreamPosition
from store.database import Database, Document, session_id
from store.errors import translated
from store.transaction import Bulk

CURSORS: Final = "room_worker_cursors"

SITES: Final = "room_worker_sites"

_TAKE_TIMEOUT_MS: Final = 2_000

_SLICE_FIELDS: Final = {
    "number": "number",
    "after": "after",
    "rotates": "rotates",
    "room_created": "founded",
    "notice_sent": "told",
}
"""Where a cursor document's `slice` has each attribute of a `SliceProgress`."""


class OtherPartitions(Exception):
    """The site's rooms are divided into another number of partitions than this replica was told."""

    def __init__(self, stored: int) -> None:
        super().__init__(f"this site was started with {stored} partitions")
        self.stored = stored


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to move one partition, with the session that does it."""

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
        """Return the filter that matches only while this lease holds."""
        return {"_id": self.id, "owner": self.owner, "epoch": self.epoch}


def cursor_id(site: str, partition: int) -> str:
    """Return the `_id` of a partition's cursor document; a site is a token and so holds no dot."""
    return f"{site}.{partition}"


async def ensure_cursors(database: Database, site: str, partitions: int, start: StreamPosition) -> None:
    """Create the site's cursors where they are missing; `OtherPartitions` if it has others.

    All of them begin where the site's first start was told to: `start` counts only for that one.
    """
    with translated():
        stored = await database[SITES].find_one_and_update(
            {"_id": site},
            {"$setOnInsert": {"partitions": partitions, **_place_fields(start)}},
            upsert=True,
            return_document=True,
        )
        if stored["partitions"] != partitions:
            raise OtherPartitions(stored["partitions"])
        fresh = {
            "site": site,
            "owner": None,
            "epoch": 0,
            "session": None,
            "writes": 0,
            **_place_fields(place(stored)),
        }
        await database[CURSORS].bulk_write(
            [
                UpdateOne(
                    {"_id": cursor_id(site, partition)},
                    {"$setOnInsert": {"partition": partition, **fresh}},
                    upsert=True,
                )
                for partition in range(partitions)
            ],
            ordered=False,
        )


async def stored_partitions(database: Database, site: str) -> int | None:
    """Return into how many partitions the site was divided at its first start; None: it never started."""
    found = await database.find(SITES, {"_id": site}, {"partitions": 1})
    return found[0]["partitions"] if found else None


async def cursors(database: Database, site: str) -> list[Document]:
    """Return every partition's owner, epoch, place and session, in partition order."""
    found = await database.find(CURSORS, {"site": site}, {})
    return sorted(found, key=lambda document: int(document["partition"]))


async def take(database: Database, cursor: Document, owner: str) -> tuple[Lease, StreamPosition]:
    """Take a partition as `cursors` saw it; `LeaseLost` if somebody else was faster.

    The former owner's session is killed first: a transaction that died with its owner would hold this
    document's lock for more than a minute. (pitfalls.md, item 29)
    """
    session = await database.start_session()
    # After an error the document may name the session all the same. Ended, its id would go to somebody else, and
    # the next `take` kill their transaction; left alone, the server forgets it after half an hour.
    with translated():
        document = await _take(database, cursor, owner, session)
    if document is None:
        await session.end_session()
        raise LeaseLost
    lease = Lease(document["site"], document["partition"], owner, document["epoch"], session)
    return lease, place(document)


async def _take(database: Database, cursor: Document, owner: str, session: Any) -> Document | None:
    if cursor["session"] is not None:
        former = [{"id": Binary(bytes(cursor["session"]), UUID_SUBTYPE)}]
        await database.client.admin.command("killSessions", former)
    taken: Document | None = await database[CURSORS].find_one_and_update(
        {"_id": cursor["_id"], "epoch": cursor["epoch"], "owner": cursor["owner"]},
        {"$set": {"owner": owner, "session": session_id(session).bytes}, "$inc": {"epoch": 1}},
        session=session,
        return_document=True,
        maxTimeMS=_TAKE_TIMEOUT_MS,
    )
    return taken


async def release(database: Database, lease: Lease) -> None:
    """Hand the partition over: whoever wants it may take it at once."""
    with translated():
        await database[CURSORS].update_one(
            lease.fence, {"$set": {"owner": None, "session": None}}, session=lease.session
        )


async def give_up(database: Database, cursor: Document) -> None:
    """Let others take a partition that its owner, as `cursors` saw it, serves no more.

    Unlike `release` it needs no lease, so it can follow a failure; whoever takes it kills its session.
    """
    with translated():
        await database[CURSORS].update_one(
            {"_id": cursor["_id"], "epoch": cursor["epoch"], "owner": cursor["owner"]}, {"$set": {"owner": None}}
        )


async def move(database: Database, lease: Lease, before: StreamPosition, after: StreamPosition) -> None:
    """Move the cursor without effects: past events of others, or back to where a re-made stream goes on."""
    with translated():
        held = await database[CURSORS].update_one(*_fencing(lease, before, after), session=lease.session)
    if held.matched_count != 1:
        raise LeaseLost


def fence(lease: Lease, before: StreamPosition | None = None, after: StreamPosition | None = None) -> Bulk:
    """Return what a transaction writes first, the cursor; `LeaseLost` if it is not ours or not at `before`.

    It is written, whether it moves or not: a fence that is only read stops nobody.
    """
    return Bulk(CURSORS, [UpdateOne(*_fencing(lease, before, after))], unmatched=LeaseLost())


def _fencing(
    lease: Lease, before: StreamPosition | None, after: StreamPosition | None
) -> tuple[Document, Document]:
    wanted = {} if before is None else {"applied": before.sequence, "slice.number": _slice_number(before)}
    moved = {} if after is None else {"$set": _place_fields(after)}
    return {**lease.fence, **wanted}, {"$inc": {"writes": 1}, **moved}


def place(document: Document) -> StreamPosition:
    """Read a cursor's place in the stream."""
    progress = document.get("slice")
    return StreamPosition(
        document["applied"],
        document["appliedNs"],
        document["createdNs"],
        None if progress is None else _slice_progress(progress),
    )


def _place_fields(where: StreamPosition) -> Document:
    return {
        "applied": where.sequence,
        "appliedNs": where.time_ns,
        "createdNs": where.created_ns,
        "slice": None if where.slice is None else _slice_document(where.slice),
    }


def _slice_progress(document: Document) -> SliceProgress:
    """Read the progress of a sliced event. After a rollback it may have fields that only newer versions know."""
    known = {name: document[field] for name, field in _SLICE_FIELDS.items() if field in document}
    return SliceProgress(**known)


def _slice_document(progress: SliceProgress) -> Document:
    return {field: getattr(progress, name) for name, field in _SLICE_FIELDS.items()}


def _slice_number(where: StreamPosition) -> int | None:
    return None if where.slice is None else where.slice.number
