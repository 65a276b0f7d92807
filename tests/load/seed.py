"""Rooms and users that the database generates itself, so that a million of them take seconds."""

from typing import Any

STEP = 1_000


async def room(db: Any, site: str, room_id: str, members: int, first: int = 0) -> None:
    """Create a channel with the members m{first}, m{first + 1}, … and a version 0 from another program."""
    facts = {"_id": room_id, "name": room_id, "type": "channel", "siteId": site, "lastMsgId": ""}
    await db.rooms.insert_one({**facts, "userCount": members, "appCount": 0, "encKey": {"priv": bytes(32), "ver": 0}})
    account = {"$concat": ["m", "$n"]}
    membership = {
        "_id": {"$concat": [room_id, "-", "$n"]},
        "u": {"_id": {"$concat": ["u-", account]}, "account": account, "isBot": {"$literal": False}},
        "roomId": room_id,
        "siteId": site,
        "roles": ["member"],
    }
    await _merge(db, "subscriptions", members, first, membership)


async def people(db: Any, count: int, first: int = 0, **fields: str) -> None:
    """Create the users m{first}, m{first + 1}, …."""
    account = {"$concat": ["m", "$n"]}
    await _merge(db, "users", count, first, {"_id": {"$concat": ["u-", account]}, "account": account, **fields})


async def _merge(db: Any, collection: str, count: int, first: int, document: dict[str, Any]) -> None:
    """Write one document per number; `$n` is the number as text."""
    last = first + count
    numbers = [
        {"$documents": [{}]},
        {"$set": {"start": {"$range": [first, last, STEP]}}},
        {"$unwind": "$start"},
        {"$set": {"n": {"$range": ["$start", {"$min": [{"$add": ["$start", STEP]}, last]}]}}},
        {"$unwind": "$n"},
        {"$set": {"n": {"$toString": "$n"}}},
        {"$project": document},
        {"$merge": {"into": {"db": db.name, "coll": collection}}},
    ]
    cursor = await db.aggregate(numbers)
    await cursor.to_list()
