"""Settle: one transaction in which staged keys become current.

It comes only after the broker has confirmed the key for every member. `encKey` is the key that other services seal
messages with. `keyRotation.past` keeps every replaced key for as long as members may ask for it. A room that has
rotated again in the meantime gets its next key staged in the same transaction. (docs/design.md, rules b and f, and
invariant 3)
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from roomkeys.errors import DatabaseError
from roomkeys.keys import KeyRecord, RoomKey
from store.database import Database, Document
from store.documents import date, key_document, key_rotation, key_version
from store.leases.lease import Lease, fence
from store.transaction import Bulk, Look, commit, update_one
from store.writes.expiry import EXPIRES
from store.writes.outbox import delete_bulk

PAST_KEYS: Final = 512
"""The most replaced keys that a room keeps within their grace period. Beyond it the oldest are deleted."""


async def settle(
    database: Database,
    lease: Lease,
    records: Mapping[str, KeyRecord],
    next_keys: Mapping[str, RoomKey],
    *,
    finished_ids: Iterable[str],
    now_ms: int,
    grace_ms: int,
) -> None:
    """Make the staged key of each room current, and stage the room's next key; without rooms, send no command.

    `records` has the keys of each room as they were read, and `next_keys` the keys to stage, by room id. Replaced
    keys stay fetchable for `grace_ms` (milliseconds). `finished_ids` are outbox entries, which are deleted.

    Errors are those of `store.writes.apply.apply`. `DatabaseError` is also raised if another program has written
    a room's keys since they were read: read them again.
    """
    if not records:
        return
    writes = [
        update_one({"_id": room_id}, promotion(record, staged, next_keys.get(room_id), until_ms=now_ms + grace_ms))
        for room_id, record in records.items()
        if (staged := record.staged) is not None
    ]
    first = fence(lease, versions=(key.version for key in next_keys.values()))
    rooms = (_unchanged(records), Bulk("rooms", writes))
    await commit(database, lease.session, [first, *rooms, delete_bulk(finished_ids)])


def _unchanged(records: Mapping[str, KeyRecord]) -> Look:
    """Return the check that no other program has put a key in use since the rooms were read."""

    def check(rooms: Sequence[Document]) -> None:
        if sum(_is_unchanged(room, records[room["_id"]]) for room in rooms) != len(records):
            raise DatabaseError("another program has written the keys of a room")

    fields = {"encKey.ver": 1, "keyRotation.staged.ver": 1}
    return Look("rooms", {"_id": {"$in": list(records)}}, fields, check)


def _is_unchanged(room: Document, record: KeyRecord) -> bool:
    """Tell whether the key is still staged and the version in use is the one read, or will not be overwritten."""
    staged = key_version(key_rotation(room).get("staged"))
    if staged is None or record.staged is None or staged != record.staged.version:
        return False
    return record.superseded or key_version(room.get("encKey")) == record.in_use


def promotion(record: KeyRecord, staged: RoomKey, next_key: RoomKey | None, *, until_ms: int) -> Document:
    """Return the update that settles the staged key and keeps what it replaces; a superseding key stays in use."""
    until = date(until_ms)
    replaced = [key for key in record.replaced if not record.superseded or key.version < staged.version]
    sets: Document = {"keyRotation.settled": staged.version, "keyRotation.current": key_document(staged)}
    if not record.superseded:
        sets["encKey"] = _in_use(staged, replaced, until)
    past = [{**key_document(key), "until": until} for key in replaced]
    update: Document = {"$set": sets}
    if record.past_lost:
        sets["keyRotation.past"] = past
    else:
        update["$push"] = {"keyRotation.past": {"$each": past, "$slice": -PAST_KEYS}}
    if past:
        update["$min"] = {EXPIRES: until}
    if next_key is None:
        update["$unset"] = {"keyRotation.staged": ""}
    else:
        sets |= {"keyRotation.staged": key_document(next_key), "keyRotation.high": next_key.version}
    return update


def _in_use(key: RoomKey, replaced: Sequence[RoomKey], until: datetime) -> Document:
    """Return `encKey`, which also has the key before it. (docs/contract.md, section 5)"""
    in_use: Document = {"priv": key.secret, "ver": key.version}
    if replaced:
        before = replaced[-1]
        in_use |= {"prevPriv": before.secret, "prevVer": before.version, "prevExpiresAt": until}
    return in_use
