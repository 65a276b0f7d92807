"""What the key service reads, for any number of requests at once: rooms first, memberships after.

Both are read from the primary in this order, in one causally consistent session. So an account that is found as a
member was not removed before the key was made. (docs/design.md, Staged first, survivors after)
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pymongo

from roomkeys.keys import RoomKey
from roomkeys.membership import RoomView, RoomViews
from store.database import Database, Document
from store.documents import COUNTS, count, date, key_rotation, key_version, membership_key, only_texts, room_key

_ROTATION_FIELDS: Final = ("keyRotation.high", "keyRotation.current", "keyRotation.staged.ver")
_ROOM_FIELDS: Final = ("encKey", *_ROTATION_FIELDS, *COUNTS)


@dataclass(frozen=True, slots=True)
class MembershipQuery:
    """A request for the next rooms of an account: those after the room id `after`, in order."""

    account: str
    after: str = ""


@dataclass(frozen=True, slots=True)
class RoomsQuery:
    """A request for rooms of an account; `versions` are wanted besides the keys in use."""

    account: str
    room_ids: tuple[str, ...]
    versions: frozenset[int] = frozenset()


async def read_room_views(
    database: Database, queries: Sequence[RoomsQuery], now_ms: int, timeout_s: float
) -> list[RoomViews]:
    """Return, for each query, those of its rooms that the account is a member of.

    Two queries to the database answer all of them. Keys that have expired at `now_ms` (epoch milliseconds) are
    left out. Raise `TransientError` if MongoDB takes longer than `timeout_s` seconds.
    """
    rooms = {room_id for query in queries for room_id in query.room_ids}
    versions = frozenset[int]().union(*(query.versions for query in queries))
    session = await database.start_session()
    try:
        with pymongo.timeout(timeout_s):
            found = await database.find("rooms", {"_id": {"$in": sorted(rooms)}}, _projection(versions), session)
            views = {document["_id"]: room_view(document, now_ms) for document in found}
            memberships = membership_filter(queries, views)
            fields = {"_id": 0, "roomId": 1, "u.account": 1}
            pairs = await database.find("subscriptions", memberships, fields, session)
    finally:
        await session.end_session()
    members = {membership_key(pair) for pair in pairs}
    return [
        {room_id: views[room_id] for room_id in query.room_ids if (room_id, query.account) in members}
        for query in queries
    ]


async def list_rooms(
    database: Database, queries: Sequence[MembershipQuery], most: int, timeout_s: float
) -> list[list[str]]:
    """Return, for each query, the account's next room ids in order: up to `most`, and one more if there are more.

    Queries with the same `after` share one query to the database. Raise `TransientError` if MongoDB takes longer
    than `timeout_s` seconds.
    """
    accounts: defaultdict[str, set[str]] = defaultdict(set)
    for query in queries:
        accounts[query.after].add(query.account)
    rooms: dict[MembershipQuery, list[str]] = {}
    with pymongo.timeout(timeout_s):
        for after, some in accounts.items():
            pipeline = rooms_pipeline(sorted(some), after, most)
            found = await database.aggregate("subscriptions", pipeline)
            if not all(map(_is_plain, found)):
                plain = {"$match": only_texts("u.account", "roomId")}
                found = await database.aggregate("subscriptions", [plain, *pipeline])
            rooms |= {MembershipQuery(document["_id"], after): document["rooms"] for document in found}
    return [rooms.get(query, []) for query in queries]


def _is_plain(listing: Document) -> bool:
    return isinstance(listing["_id"], str) and all(isinstance(room_id, str) for room_id in listing["rooms"])


def rooms_pipeline(accounts: list[str], after: str, most: int) -> list[Document]:
    """Return the pipeline of the next `most` + 1 rooms of some accounts. An index covers it."""
    return [
        {"$match": {"u.account": {"$in": accounts}, "roomId": {"$gt": after}}},
        {"$sort": {"u.account": 1, "roomId": 1}},
        {"$group": {"_id": "$u.account", "rooms": {"$firstN": {"input": "$roomId", "n": most + 1}}}},
    ]


def membership_filter(queries: Iterable[RoomsQuery], rooms: Iterable[str]) -> Document:
    """Return the filter for the memberships that the queries ask about, of those rooms that exist.

    It has one clause per room or one per account, whichever are fewer: thousands of accounts may ask for one room.
    """
    existing = frozenset(rooms)
    pairs = {(query.account, room_id) for query in queries for room_id in query.room_ids if room_id in existing}
    by_room: defaultdict[str, list[str]] = defaultdict(list)
    by_account: defaultdict[str, list[str]] = defaultdict(list)
    for account, room_id in sorted(pairs):
        by_room[room_id].append(account)
        by_account[account].append(room_id)
    if len(by_room) <= len(by_account):
        clauses = [{"roomId": room_id, "u.account": {"$in": accounts}} for room_id, accounts in by_room.items()]
    else:
        clauses = [{"u.account": account, "roomId": {"$in": room_ids}} for account, room_ids in by_account.items()]
    return {"$or": clauses} if clauses else {"roomId": {"$in": []}}


def room_view(document: Document, now_ms: int) -> RoomView:
    """Return what members may know about a room, from its document.

    - `encKey` is the key in use while it is the key that this worker settled last.
    - If another program has replaced it, no key is in use. This worker's last key, which members have, can still
      be asked for by its version.
    - Before this worker has settled a key, the previous system's `encKey` is in use while it is below `high`.
    - Any other foreign key is available once a rotation has put it among the replaced keys. Until then its version
      may become one of this worker's.
    """
    in_use, rotation = document.get("encKey"), key_rotation(document)
    current, ours = room_key(in_use), room_key(rotation.get("current"))
    past = document.get("past")
    others = [key for entry in past if (key := _unexpired(entry, now_ms))] if isinstance(past, list) else []
    if ours is None:
        high = key_version({"ver": rotation.get("high")})
        if current is not None and high is not None and current.version >= high:
            current = None
        previous = _previous(in_use, now_ms)
        others += [previous] if previous and current and previous.version < current.version else []
    elif current != ours:
        current = None
        others.append(ours)
    users, apps = (count(document.get(field)) or 0 for field in COUNTS)
    return RoomView(current, tuple(others), users, apps, rotating=isinstance(rotation.get("staged"), dict))


def _projection(versions: frozenset[int]) -> Document:
    """Return the fields to read of a room: never a staged key's bytes, and only replaced keys of `versions`."""
    fields: Document = dict.fromkeys(_ROOM_FIELDS, 1)
    if versions:
        past = {"$cond": [{"$isArray": "$keyRotation.past"}, "$keyRotation.past", []]}
        fields["past"] = {"$filter": {"input": past, "cond": {"$in": ["$$this.ver", sorted(versions)]}}}
    return fields


def _previous(in_use: object, now_ms: int) -> RoomKey | None:
    if not isinstance(in_use, dict):
        return None
    fields = {"ver": "prevVer", "priv": "prevPriv", "until": "prevExpiresAt"}
    return _unexpired({name: in_use.get(field) for name, field in fields.items()}, now_ms)


def _unexpired(entry: object, now_ms: int) -> RoomKey | None:
    until = entry.get("until") if isinstance(entry, dict) else None
    return room_key(entry) if isinstance(until, datetime) and until > date(now_ms) else None
