"""Rooms and users, which the database itself generates and writes, so that a million take seconds."""

from datetime import UTC, datetime
from typing import Any, Final

from benchmarks.harness.sizes import FIRST
from roomkeys.membership import UNSET_FLAGS

_STEP: Final = 1_000
_AT: Final = datetime(2025, 5, 11, tzinfo=UTC)


async def rooms(db: Any, site: str, prefix: str, count: int, members: int, *, apart: bool = False) -> list[str]:
    """Create channels {prefix}0, {prefix}1, … with their memberships; return their ids.

    All rooms have the same members. With `apart`, no account is a member of two of them.
    """
    facts = {"name": "a room", "type": "channel", "siteId": site, "lastMsgId": "", "userCount": members}
    key = {"priv": bytes(32), "ver": 0}
    ids = [f"{prefix}{number}" for number in range(count)]
    await db.rooms.insert_many([{"_id": room_id, **facts, "appCount": 0, "encKey": key} for room_id in ids])
    await _write(db, "subscriptions", count * members, _membership(site, prefix, members, 0, apart=apart), new=True)
    return ids


async def memberships(db: Any, site: str, prefix: str, count: int, members: int, first: int) -> None:
    """Create the memberships of `members` accounts from `first` on in each room; keep existing ones."""
    await _write(db, "subscriptions", count * members, _membership(site, prefix, members, first, apart=False))


def _membership(site: str, prefix: str, members: int, first: int, *, apart: bool) -> dict[str, Any]:
    """Return membership number `$n` as an aggregation expression."""
    number = {"$add": [FIRST + first, "$n" if apart else {"$mod": ["$n", members]}]}
    account = {"$concat": ["m", {"$toString": number}]}
    room_id = {"$concat": [prefix, {"$toString": {"$toLong": {"$floor": {"$divide": ["$n", members]}}}}]}
    return {
        "_id": {"$concat": [room_id, "-", account]},
        "u": {"_id": {"$concat": ["u-", account]}, "account": account, "isBot": {"$literal": False}},
        "roomId": room_id,
        "siteId": site,
        "roles": ["member"],
        "name": "a room",
        "roomType": "channel",
        "joinedAt": _AT,
        **{flag: {"$literal": False} for flag in UNSET_FLAGS},
    }


async def member_of(db: Any, site: str, prefix: str, rooms: int, account: str) -> None:
    """Make one account a member of the first `rooms` rooms."""
    room_id = {"$concat": [prefix, {"$toString": "$n"}]}
    document = {
        "_id": {"$concat": [room_id, "-", account]},
        "u": {"_id": {"$literal": f"u-{account}"}, "account": {"$literal": account}, "isBot": {"$literal": False}},
        "roomId": room_id,
        "siteId": site,
    }
    await _write(db, "subscriptions", rooms, document)


async def people(db: Any, count: int) -> None:
    """Create the users of the first accounts."""
    account = {"$concat": ["m", {"$toString": {"$add": [FIRST, "$n"]}}]}
    await _write(db, "users", count, {"_id": {"$concat": ["u-", account]}, "account": account})


async def _write(db: Any, collection: str, count: int, document: dict[str, Any], *, new: bool = False) -> None:
    """Write one document for each number `$n` below `count`. With `new`, an existing document is an error."""
    when_matched = "fail" if new else "keepExisting"
    pipeline = [
        {"$documents": [{}]},
        {"$set": {"start": {"$range": [0, count, _STEP]}}},
        {"$unwind": "$start"},
        {"$set": {"n": {"$range": ["$start", {"$min": [{"$add": ["$start", _STEP]}, count]}]}}},
        {"$unwind": "$n"},
        {"$project": document},
        {"$merge": {"into": {"db": db.name, "coll": collection}, "whenMatched": when_matched}},
    ]
    await (await db.aggregate(pipeline)).to_list()
