"""Settle: one transaction in which staged keys become current.

Only after the broker confirmed that it took the key for every member. `encKey` is what other services seal
messages with; `keyRotation.past` keeps every replaced key for as long as members may ask for it. A room that
was to rotate again in the meantime has its next key staged in the same transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from pymongo import UpdateOne

from roomkeys.errors import Passing
from roomkeys.keys import KeyRecord, RoomKey
from store.connect import Database, Document
from store.cursors import Lease, fence
from store.documents import VERSIONS, date, key_document
from store.outbox import struck
from store.transaction import Bulk, commit

PAST_KEYS: Final = 512
"""The most replaced keys that a room keeps within its grace period; beyond that the oldest go."""


async def settle(
    database: Database,
    lease: Lease,
    records: Mapping[str, KeyRecord],
    following: Mapping[str, RoomKey],
    *,
    paid: Iterable[str],
    now_ms: int,
    grace_ms: int,
) -> None:
    """Make the staged key of each room current, and stage the key that follows it; no rooms: no call.

    Replaced keys stay fetchable for `grace_ms`. `paid` are outbox ids, which go too. Errors as those of `apply`;
    `Passing` also where somebody else has written a room's keys since they were read: read them again.
    """
    if not records:
        return
    writes = [
        UpdateOne(
            _as_read(room_id, record, staged),
            promotion(record, staged, following.get(room_id), until_ms=now_ms + grace_ms),
        )
        for room_id, record in records.items()
        if (staged := record.staged) is not None
    ]
    promoted = Bulk("rooms", writes, unmatched=Passing("a room's keys were written by another program"))
    await commit(database, lease.session, [fence(lease), promoted, struck(paid)])


def _as_read(room_id: str, record: KeyRecord, staged: RoomKey) -> Document:
    """Return the filter of a room that nobody has put another key in use of since, above the staged one."""
    query: Document = {"_id": room_id, "keyRotation.staged.ver": staged.version}
    if not record.overtaken:
        query["$nor"] = [{"encKey.ver": {"$gt": staged.version, "$lt": VERSIONS}}]
    return query


def promotion(record: KeyRecord, staged: RoomKey, following: RoomKey | None, *, until_ms: int) -> Document:
    """Return the update that makes the staged key current and keeps those it replaces.

    Where somebody else's key of a higher version is in use it stays so, until the following key settles.
    """
    until = date(until_ms)
    replaced = [key for key in record.replaced if not record.overtaken or key.version < staged.version]
    sets: Document = {"keyRotation.settled": staged.version, "keyRotation.current": key_document(staged)}
    if not record.overtaken:
        sets["encKey"] = _in_use(staged, replaced, until)
    past = [{**key_document(key), "until": until} for key in replaced]
    update: Document = {"$set": sets, "$push": {"keyRotation.past": {"$each": past, "$slice": -PAST_KEYS}}}
    if following is None:
        update["$unset"] = {"keyRotation.staged": ""}
    else:
        sets |= {"keyRotation.staged": key_document(following), "keyRotation.high": following.version}
    return update


def _in_use(key: RoomKey, replaced: Sequence[RoomKey], until: datetime) -> Document:
    """Return `encKey`, with the key before it."""
    in_use: Document = {"priv": key.secret, "ver": key.version}
    if replaced:
        before = replaced[-1]
        in_use |= {"prevPriv": before.secret, "prevVer": before.version, "prevExpiresAt": until}
    return in_use
