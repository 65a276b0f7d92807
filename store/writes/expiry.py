"""Erasing replaced keys once their time has passed. (docs/design.md, "Expired keys")

Settle notes in each room when its first replaced key expires, and a sparse index finds the rooms that are due. An
index over the keys themselves would slow every settle down. Rooms without that note, which an earlier version or
another program left, are found by a slow pass over all rooms.

This is the one write to a room's keys that comes from outside the loop. It needs no fence: each statement removes
only what carries a date that has passed, and tests that in the document as it is then. So it can undo nothing that
settle writes, however late it arrives. A settle that meets it is a write conflict, and is tried again.
"""

from typing import Any, Final

from pymongo import UpdateMany

from store.database import SIMPLE, Database, Document
from store.documents import date
from store.errors import translated

EXPIRES: Final = "keyRotation.expires"
"""When the first replaced key of a room expires."""

_PAST: Final = "$keyRotation.past"
_PREVIOUS: Final = dict.fromkeys(("encKey.prevPriv", "encKey.prevVer", "encKey.prevExpiresAt"), "")


async def erase_due(database: Database, now_ms: int, most: int) -> int:
    """Erase the keys that have expired at `now_ms` (epoch milliseconds) in up to `most` rooms that are due.

    Return how many updates changed something. An index finds the rooms; without it, the error is `Refused`.
    """
    due = {EXPIRES: {"$lte": date(now_ms)}, **_is("keyRotation", "object")}
    rooms = await database.find("rooms", due, {"_id": 1}, limit=most, hint={EXPIRES: 1})
    return await _erase(database, {"_id": {"$in": [room["_id"] for room in rooms]}}, due, now_ms) if rooms else 0


async def erase_after(database: Database, now_ms: int, after: str, most: int) -> str:
    """Erase the keys that have expired at `now_ms` in the next `most` rooms after the room id `after`.

    Return the last of these ids, or "" if they were the last rooms.
    """
    found = await database.find("rooms", {"_id": {"$gt": after}}, {"_id": 1}, sort="_id", skip=most - 1, limit=1)
    last = found[0]["_id"] if found else ""
    rooms = {"_id": {"$gt": after, **({"$lte": last} if last else {})}}
    expired = {"keyRotation.past.until": {"$lte": date(now_ms)}, **_is("keyRotation", "object")}
    await _erase(database, rooms, expired, now_ms)
    return str(last)


async def _erase(database: Database, rooms: Document, expired: Document, now_ms: int) -> int:
    moment = date(now_ms)
    previous = {**rooms, "encKey.prevExpiresAt": {"$lte": moment}, **_is("encKey", "object")}
    # The rooms are found by their past keys, so those go last: what is interrupted is found again.
    writes = [
        UpdateMany(previous, {"$unset": _PREVIOUS}, collation=SIMPLE),
        UpdateMany({**rooms, **expired}, _without_expired(moment), collation=SIMPLE),
    ]
    with translated():
        written: Any = await database["rooms"].bulk_write(writes, ordered=True)
    return int(written.modified_count)


def _without_expired(moment: object) -> list[Document]:
    """Return the update that removes the expired keys, and notes when the next one expires."""
    has_expired = {"$and": [{"$eq": [{"$type": "$$this.until"}, "date"]}, {"$lte": ["$$this.until", moment]}]}
    kept = {"$filter": {"input": _PAST, "cond": {"$not": has_expired}}}
    first = {"$ifNull": [{"$min": f"{_PAST}.until"}, "$$REMOVE"]}
    return [
        {"$set": {"keyRotation.past": {"$cond": [{"$isArray": _PAST}, kept, _PAST]}}},
        {"$set": {EXPIRES: {"$cond": [{"$isArray": _PAST}, first, "$$REMOVE"]}}},
    ]


def _is(field: str, kind: str) -> Document:
    """Return a filter for documents in which the field itself is of this type: `$type` looks into arrays too."""
    return {"$expr": {"$eq": [{"$type": f"${field}"}, kind]}}
