"""What the key service reads: rooms first, memberships after, for any number of requests at once.

In this order, in one causally consistent session on the primary: whoever is a member after a key was read has
not been removed before that key was made. (design.md, "Staged first, survivors after")
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pymongo

from roomkeys.keys import RoomKey
from roomkeys.membership import RoomView, RoomViews
from store.database import Database, Document
from store.documents import VERSIONS, date, key_version, room_key


@dataclass(frozen=True, slots=True)
class MembershipQuery:
    """Whose rooms are listed, and after which one."""

    account: str
    after: str = ""


@dataclass(frozen=True, slots=True)
class RoomsQuery:
    """What one request needs to know: an account's rooms, and which versions besides those in use."""

    account: str
    room_ids: tuple[str, ...]
    versions: frozenset[int] = frozenset()


async def read_room_views(
    database: Database, needs: Sequence[RoomsQuery], now_ms: int, timeout_s: float
) -> list[RoomViews]:
    """Return for each request the rooms that its account is a member of; two queries, however many there are.

    `TransientError` if MongoDB takes longer than `timeout_s` seconds.
    """
    rooms = {room_id for need in needs for room_id in need.room_ids}
    versions = frozenset[int]().union(*(need.versions for need in needs))
    session = await database.start_session()
    try:
        with pymongo.timeout(timeout_s):
            found = await database.find("rooms", {"_id": {"$in": sorted(rooms)}}, _projection(versions), session)
            states = {document["_id"]: room_state(document, now_ms) for document in found}
            query = members_query(needs, states)
            pairs = await database.find("subscriptions", query, {"_id": 0, "roomId": 1, "u.account": 1}, session)
    finally:
        await session.end_session()
    members = {(pair["u"]["account"], pair["roomId"]) for pair in pairs if _is_plain(pair)}
    return [
        {room_id: states[room_id] for room_id in need.room_ids if (need.account, room_id) in members}
        for need in needs
    ]


async def rooms_of(
    database: Database, listings: Sequence[MembershipQuery], most: int, timeout_s: float
) -> list[list[str]]:
    """Return the next rooms of each account, in order, `most` and one more; one query per distinct start.

    `TransientError` if MongoDB takes longer than `timeout_s` seconds.
    """
    accounts: defaultdict[str, set[str]] = defaultdict(set)
    for listing in listings:
        accounts[listing.after].add(listing.account)
    rooms: dict[MembershipQuery, list[str]] = {}
    with pymongo.timeout(timeout_s):
        for after, some in accounts.items():
            found = await database.aggregate("subscriptions", rooms_pipeline(sorted(some), after, most))
            rooms |= {
                MembershipQuery(document["_id"], after): document["rooms"]
                for document in found
                if isinstance(document["_id"], str)
            }
    return [[room_id for room_id in rooms.get(listing, ()) if isinstance(room_id, str)] for listing in listings]


def rooms_pipeline(accounts: list[str], after: str, most: int) -> list[Document]:
    """Return the covered pipeline of the next `most` rooms of some accounts, and one room more."""
    return [
        {"$match": {"u.account": {"$in": accounts}, "roomId": {"$gt": after}}},
        {"$sort": {"u.account": 1, "roomId": 1}},
        {"$group": {"_id": "$u.account", "rooms": {"$firstN": {"input": "$roomId", "n": most + 1}}}},
    ]


def members_query(needs: Iterable[RoomsQuery], rooms: Iterable[str]) -> Document:
    """Return the query for who is a member of what, among these rooms: a clause a room, or one an account.

    Whichever are fewer: the rooms that thousands miss the key of, or the accounts with a hundred rooms each.
    """
    known = frozenset(rooms)
    pairs = {(need.account, room_id) for need in needs for room_id in need.room_ids if room_id in known}
    by_room: defaultdict[str, list[str]] = defaultdict(list)
    by_account: defaultdict[str, list[str]] = defaultdict(list)
    for account, room_id in sorted(pairs):
        by_room[room_id].append(account)
        by_account[account].append(room_id)
    if len(by_room) <= len(by_account):
        clauses = [{"roomId": room_id, "u.account": {"$in": accounts}} for room_id, accounts in by_room.items()]
    else:
        clauses = [{"u.account": account, "roomId": {"$in": of}} for account, of in by_account.items()]
    return {"$or": clauses} if clauses else {"roomId": {"$in": []}}


def room_state(document: Document, now_ms: int) -> RoomView:
    """Read what members may know of a room.

    The key in use is answered while it is what this worker last settled. Where somebody else has overwritten or
    lost it, nobody may say what is in use, but ours can still be asked for by its version: members hold it.
    A room that this worker has never given a key of its own has its former system's; once it has, a foreign
    key is answered only when a rotation has put it among the replaced ones: until then its version may
    yet become one of ours.
    """
    in_use, rotation = document.get("encKey"), document.get("keyRotation")
    if not isinstance(rotation, dict):
        rotation = {}
    current, ours = room_key(in_use), room_key(rotation.get("current"))
    others = [key for entry in _list(document.get("past")) if (key := _unexpired(entry, now_ms))]
    if ours is None:
        high = key_version({"ver": rotation.get("high")})
        if current is not None and high is not None and current.version >= high:
            current = None
        before = _previous(in_use, now_ms)
        others += [before] if before and current and before.version < current.version else []
    elif current != ours:
        current = None
        others.append(ours)
    users, apps = (_count(document.get(field)) for field in ("userCount", "appCount"))
    return RoomView(current, tuple(others), users, apps, rotating=isinstance(rotation.get("staged"), dict))


def _is_plain(pair: Document) -> bool:
    """Tell whether a membership is one account's of one room: an array would match a query as well."""
    who = pair.get("u")
    return isinstance(who, dict) and isinstance(who.get("account"), str) and isinstance(pair.get("roomId"), str)


def _projection(versions: frozenset[int]) -> Document:
    """Return what is read of a room: the staged key's bytes are not, of the replaced keys those asked for."""
    fields: Document = {
        "encKey": 1,
        "keyRotation.high": 1,
        "keyRotation.current": 1,
        "keyRotation.staged.ver": 1,
        "userCount": 1,
        "appCount": 1,
    }
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


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _count(value: object) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value < VERSIONS else 0
