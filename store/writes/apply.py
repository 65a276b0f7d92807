"""Apply: one transaction with everything that a batch writes. (docs/design.md, rules a and b)

It writes in this order: the cursor, which is the fence; `rooms`, early because other services write to it for
every message; memberships and their reasons; the outbox. Each is a bulk, so the number of commands does not depend
on the number of events.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from pymongo import InsertOne

from roomkeys.decisions.decision import INDIVIDUAL, ORG, RoomChange
from roomkeys.events.event import StreamMessage
from roomkeys.events.position import StreamPosition
from roomkeys.keys import KeyRecord, RoomKey
from roomkeys.membership import MEMBER_ROLES
from store.database import Database, Document
from store.documents import COUNTS, USED_IDS, date, key_document, membership_document, reason_upsert, room_document
from store.leases.lease import Lease, fence
from store.transaction import Bulk, Look, Step, Write, commit, delete_many, update_many, update_one
from store.writes import outbox
from store.writes.letters import letter_document, letters_of, without_letters
from store.writes.outbox import OUTBOX, StoredEntry, delete_bulk
from store.writes.waiting import StoredWaiting, waiting_document


async def apply(  # noqa: PLR0913 - everything that a batch writes, by name
    database: Database,
    lease: Lease,
    *,
    before: StreamPosition,
    after: StreamPosition,
    changes: Sequence[RoomChange],
    staged: Mapping[str, RoomKey],
    entries: Sequence[StoredEntry],
    finished_ids: Iterable[str],
    now_ms: int,
    kept_event: StreamMessage | None = None,
    waiting: Iterable[StoredWaiting] = (),
) -> None:
    """Write a batch, or a slice of one event, and move the cursor from `before` to `after`.

    - `staged`: by room id, the new key of each change that stages one.
    - `entries`: what the batch owes; `finished_ids`: the outbox entries to delete.
    - `now_ms`: when the rooms were updated (epoch milliseconds).
    - `kept_event`: the event to keep in the outbox, with its first slice. The last slice deletes it.
    - `waiting`: the events that the cursor passes and that wait from now on, because their rooms are set aside.

    Raise `WriteConflict` or `Refused` if nothing was written. Raise another `DatabaseError` if it may have been:
    take the lease again and read back. Raise `LeaseLost` if another replica has the partition, or if the cursor is
    not at `before`.
    """
    documents = [outbox.entry_document(without_letters(entry)) for entry in entries]
    documents += map(letter_document, letters_of(lease, entries, before.created_ns))
    documents += [] if kept_event is None else [outbox.kept_event_document(lease, kept_event)]
    documents += [waiting_document(one) for one in waiting]
    completed = before.slice is not None and after.slice is None
    deleted_ids = [*finished_ids, *([outbox.kept_event_id(lease)] if completed else [])]
    bulks = [
        fence(lease, before, after, (change.high for change in changes)),
        *_room_bulks(changes, staged, now_ms),
        # Two bulks: an error of the one must not look like a conflict of the other.
        delete_bulk(deleted_ids),
        Bulk(OUTBOX, [InsertOne(document) for document in documents]),
    ]
    await commit(database, lease.session, bulks)


async def rehearse(database: Database, lease: Lease, change: RoomChange, key: RoomKey | None, now_ms: int) -> None:
    """Carry out what `apply` writes for one room, and abort. Errors are those of `apply`.

    If this succeeds, the database takes such writes now.
    """

    def abort(_: object) -> None:
        raise _Rehearsed

    staged = {} if key is None else {change.room.id: key}
    entry_id = f"{lease.id}.rehearsal"
    steps: list[Step] = [
        *_room_bulks([change], staged, now_ms),
        Bulk(OUTBOX, [InsertOne({"_id": entry_id})]),
        delete_bulk([entry_id]),
        Look("rooms", {"_id": change.room.id}, {"_id": 1}, abort),
    ]
    with suppress(_Rehearsed):
        await commit(database, lease.session, steps)


class _Rehearsed(Exception):
    """Every write was carried out, and now none of them shall be kept."""


def _room_bulks(changes: Sequence[RoomChange], staged: Mapping[str, RoomKey], now_ms: int) -> list[Bulk]:
    rooms = [_room_write(change, staged.get(change.room.id), now_ms) for change in changes]
    return [
        Bulk("rooms", [write for write in rooms if write]),
        *_memberships(changes),
        *_reasons(changes),
        Bulk(USED_IDS, [_used_id(change.room.id, now_ms) for change in changes if change.first_use]),
    ]


def _used_id(room_id: str, now_ms: int) -> Write:
    return update_one({"_id": room_id}, {"$setOnInsert": {"since": date(now_ms)}}, upsert=True)


def _room_write(change: RoomChange, staged: RoomKey | None, now_ms: int) -> Write | None:
    rotation: Document = {}
    if change.high is not None:
        rotation["high"] = change.high
    if staged is not None:
        rotation["staged"] = key_document(staged)
    if change.creation is not None:
        document = room_document(change.room, change.creation, change.users_delta, change.apps_delta)
        return InsertOne({**document, "keyRotation": rotation} if rotation else document)
    update: Document = {}
    sets: Document = {} if not rotation else _rotation_sets(change.room.keys, rotation)
    if rotation and not (change.room.keys.rotation_lost or change.room.keys.past_lost):
        update["$pull"] = {"keyRotation.past": {"until": {"$lt": date(now_ms)}}}
    deltas = dict(zip(COUNTS, (change.users_delta, change.apps_delta), strict=True))
    if change.room.recounted is not None:
        counts = zip(deltas.items(), change.room.recounted, strict=True)
        sets |= {field: counted + delta for (field, delta), counted in counts}
    elif change.joined or change.left:
        update["$inc"] = deltas
    if change.room.recounted is not None or change.joined or change.left:
        sets["updatedAt"] = date(now_ms)
    if sets:
        update["$set"] = sets
    return update_one({"_id": change.room.id}, update) if update else None


def _rotation_sets(keys: KeyRecord, rotation: Document) -> Document:
    """Return what to set in `keyRotation`; whatever has taken its place, or that of the replaced keys, goes."""
    if keys.rotation_lost:
        return {"keyRotation": rotation}
    sets = {f"keyRotation.{field}": value for field, value in rotation.items()}
    return {**sets, "keyRotation.past": []} if keys.past_lost else sets


def _memberships(changes: Sequence[RoomChange]) -> list[Bulk]:
    """Return deletions, then insertions: an account that leaves and returns in one batch gets a new membership."""
    demoted = {change.room.id: change.demoted for change in changes if change.demoted}
    left = {change.room.id: change.deleted for change in changes if change.deleted}
    before: list[Write] = []
    if demoted:
        before.append(update_many(_membership_filter(demoted), {"$set": {"roles": list(MEMBER_ROLES)}}))
    if left:
        before.append(delete_many(_membership_filter(left)))
    joined = [membership_document(membership) for change in changes for membership in change.joined]
    return [Bulk("subscriptions", before), Bulk("subscriptions", [InsertOne(document) for document in joined])]


def _membership_filter(ids_by_room: Mapping[str, Sequence[Any]]) -> Document:
    """Return one filter for memberships of any number of rooms: the server plans every statement separately."""
    return {"roomId": {"$in": list(ids_by_room)}, "_id": {"$in": list(chain.from_iterable(ids_by_room.values()))}}


def _reasons(changes: Sequence[RoomChange]) -> list[Bulk]:
    cleared = [change.room.id for change in changes if change.reasons_cleared]
    deleted: list[Write] = [delete_many({"rid": {"$in": cleared}, "member.type": INDIVIDUAL})] if cleared else []
    rows = {change.room.id: change.removed_rows for change in changes if change.removed_rows}
    if rows:
        deleted.append(delete_many({"rid": {"$in": list(rows)}, "_id": {"$in": [*chain.from_iterable(rows.values())]}}))
    inserted: list[Write] = []
    for change in changes:
        if change.removed_orgs:
            orgs = {"member.type": ORG, "member.id": {"$in": list(change.removed_orgs)}}
            deleted.append(delete_many({"rid": change.room.id, **orgs}))
        inserted += [reason_upsert(change.room.id, reason) for reason in change.reasons]
    return [Bulk("room_members", deleted), Bulk("room_members", inserted)]


async def clear_reasons(database: Database, lease: Lease, position: StreamPosition, ids: list[str]) -> None:
    """Delete membership reasons by their ids, and leave the cursor at `position`. Errors are those of `apply`."""
    reasons = Bulk("room_members", [delete_many({"_id": {"$in": ids}})])
    await commit(database, lease.session, [fence(lease, position, position), reasons])
