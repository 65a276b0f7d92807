"""Settle: one transaction in which staged keys become current.

Only after the broker confirmed that it took the key for every member. `encKey` is what other services seal
messages with; `keyRotation.past` keeps every replaced key for as long as members may ask for it. A room that
was to rotate again in the meantime has its next key staged in the same transaction.
"""

from collections.abc import Mapping
from typing import Final

from pymongo import UpdateOne

from roomkeys.keys import KeyRecord, RoomKey
from store.connect import Database, Document
from store.cursors import Lease, fence
from store.documents import date, key_document

PAST_KEYS: Final = 512
"""The most replaced keys that a room keeps within its grace period; beyond that the oldest go."""


async def settle(
    database: Database,
    lease: Lease,
    records: Mapping[str, KeyRecord],
    following: Mapping[str, RoomKey],
    *,
    now_ms: int,
    grace_ms: int,
) -> None:
    """Make the staged key of each room current, and stage the key that follows it; nothing staged: no call.

    Replaced keys stay fetchable for `grace_ms`. Errors as those of `apply`.
    """
    writes = [
        UpdateOne(
            {"_id": room_id, "keyRotation.staged.ver": staged.version},
            promotion(record, staged, following.get(room_id), until_ms=now_ms + grace_ms),
        )
        for room_id, record in records.items()
        if (staged := record.staged) is not None
    ]
    if not writes:
        return
    async with database.transaction(lease.session):
        await fence(database, lease)
        await database["rooms"].bulk_write(writes, ordered=False, session=lease.session)


def promotion(record: KeyRecord, staged: RoomKey, following: RoomKey | None, *, until_ms: int) -> Document:
    """Return the update that makes the staged key current and keeps those it replaces."""
    until = date(until_ms)
    in_use: Document = {"priv": staged.secret, "ver": staged.version}
    if record.replaced:
        before = record.replaced[-1]
        in_use |= {"prevPriv": before.secret, "prevVer": before.version, "prevExpiresAt": until}
    past = [{**key_document(key), "until": until} for key in record.replaced]
    update: Document = {
        "$set": {
            "encKey": in_use,
            "keyRotation.settled": staged.version,
            "keyRotation.current": key_document(staged),
        },
        "$push": {"keyRotation.past": {"$each": past, "$slice": -PAST_KEYS}},
    }
    if following is None:
        update["$unset"] = {"keyRotation.staged": ""}
    else:
        update["$set"]["keyRotation.staged"] = key_document(following)
    return update
