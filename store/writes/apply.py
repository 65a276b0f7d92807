"""Apply: one transaction with everything a batch writes. (design.md, rules a and b)

In this order: the cursor, which is the fence; `rooms`, which other services write for every message and so
must not wait long under our lock; memberships and rows; the outbox. Each is a bulk, so the number of
commands does not depend on the number of events.
"""

from collections.abc import Iterable, Mapping, Sequence

from pymongo import DeleteMany, InsertOne, UpdateMany, UpdateOne

from roomkeys.decisions.decision import INDIVIDUAL, RoomChange
from roomkeys.events.event import StreamMessage
from roomkeys.events.position import StreamPosition
from roomkeys.keys import RoomKey
from roomkeys.membership import MEMBER
from store.database import Database, Document
from store.documents import date, key_document, membership_document, room_document, row_fields
from store.leases.lease import Lease, fence
from store.transaction import Bulk, Write, commit
from store.writes.outbox import OUTBOX, StoredEntry, delete_bulk, entry_document, kept_document, kept_id


async def apply(  # noqa: PLR0913 - what a batch writes, each part by name
    database: Database,
    lease: Lease,
    *,
    before: StreamPosition,
    after: StreamPosition,
    changes: Sequence[RoomChange],
    staged: Mapping[str, RoomKey],
    owed: Sequence[StoredEntry],
    paid: Iterable[str],
    now_ms: int,
    keep: StreamMessage | None = None,
) -> None:
    """Write a batch, or a slice of one event. `staged` has the new key of each room whose change stages one.

    `paid` are outbox ids; `keep` is the event that `after` leaves applied in part, the first time it does.
    `WriteConflict`: nothing was written, try again. `TransientError`: perhaps it was, renew the lease and look.
    `LeaseLost`: another replica has the partition.
    """
    rooms = [_room_write(change, staged.get(change.room.id), now_ms) for change in changes]
    documents = [entry_document(entry) for entry in owed]
    documents += [] if keep is None else [kept_document(lease, keep)]
    gone = [*paid, *([kept_id(lease)] if before.slice is not None and after.slice is None else [])]
    bulks = [
        fence(lease, before, after),
        Bulk("rooms", [write for write in rooms if write]),
        *_memberships(changes),
        *_rows(changes),
        # One after the other: what is wrong with the one must not look like a conflict of the other.
        delete_bulk(gone),
        Bulk(OUTBOX, [InsertOne(document) for document in documents]),
    ]
    await commit(database, lease.session, bulks)


def _room_write(change: RoomChange, staged: RoomKey | None, now_ms: int) -> Write | None:
    rotation: Document = {}
    if change.high is not None:
        rotation["high"] = change.high
    if staged is not None:
        rotation["staged"] = key_document(staged)
    if change.founding is not None:
        document = room_document(change.room, change.founding, change.users_delta, change.apps_delta)
        return InsertOne({**document, "keyRotation": rotation} if rotation else document)
    update: Document = {}
    sets = {f"keyRotation.{field}": value for field, value in rotation.items()}
    if change.users_delta or change.apps_delta or change.joined or change.left:
        update["$inc"] = {"userCount": change.users_delta, "appCount": change.apps_delta}
        sets["updatedAt"] = date(now_ms)
    if rotation:
        update["$pull"] = {"keyRotation.past": {"until": {"$lt": date(now_ms)}}}
    if sets:
        update["$set"] = sets
    return UpdateOne({"_id": change.room.id}, update) if update else None


def _memberships(changes: Sequence[RoomChange]) -> list[Bulk]:
    """Return deletions before insertions: who left and came back within the batch has a new membership."""
    demoted = {change.room.id: change.demoted for change in changes if change.demoted}
    left = {change.room.id: change.left for change in changes if change.left}
    went: list[Write] = []
    if demoted:
        went.append(UpdateMany(_named(demoted), {"$set": {"roles": list(MEMBER)}}))
    if left:
        went.append(DeleteMany(_named(left)))
    came: list[Write] = [
        InsertOne(membership_document(membership)) for change in changes for membership in change.joined
    ]
    return [Bulk("subscriptions", went), Bulk("subscriptions", came)]


def _named(ids_by_room: Mapping[str, Sequence[str]]) -> Document:
    """Return the filter of memberships of any rooms: one statement, for the server plans each one anew."""
    ids = [id_ for of_room in ids_by_room.values() for id_ in of_room]
    return {"roomId": {"$in": list(ids_by_room)}, "_id": {"$in": ids}}


def _rows(changes: Sequence[RoomChange]) -> list[Bulk]:
    cleared = [change.room.id for change in changes if change.rows_cleared]
    went: list[Write] = [DeleteMany({"rid": {"$in": cleared}, "member.type": INDIVIDUAL})] if cleared else []
    came: list[Write] = []
    for change in changes:
        for type_ in sorted({type_ for type_, _ in change.rows_gone}):
            ids = [id_ for of_type, id_ in change.rows_gone if of_type == type_]
            went.append(DeleteMany({"rid": change.room.id, "member.type": type_, "member.id": {"$in": ids}}))
        came += [
            # An upsert: rows that another system left behind in a room without orgs are no conflict.
            UpdateOne(
                {"rid": change.room.id, "member.type": row.type, "member.id": row.id},
                {"$setOnInsert": row_fields(row)},
                upsert=True,
            )
            for row in change.rows
        ]
    return [Bulk("room_members", went), Bulk("room_members", came)]


async def clear_rows(database: Database, lease: Lease, place: StreamPosition, ids: list[str]) -> None:
    """Delete rows, as a slice that stays at its place. Errors as those of `apply`."""
    rows = Bulk("room_members", [DeleteMany({"_id": {"$in": ids}})])
    await commit(database, lease.session, [fence(lease, place, place), rows])
