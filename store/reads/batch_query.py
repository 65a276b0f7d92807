"""What a batch names: its rooms, their org rows, the users and their memberships, in one query.

A round trip to the database costs more than what it finds; a batch without orgs needs no other one. For the same
reason everybody in a small room that somebody leaves, or that is to rotate, is found here too: who is left of
them, the batch itself says.
"""

from collections.abc import Collection, Iterable, Mapping
from operator import itemgetter
from typing import Any, Final

from roomkeys.decisions.decision import ORG
from store import documents
from store.database import Database, Document
from store.reads import members

ROOM_FIELDS: Final = {
    "name": 1,
    "type": 1,
    "siteId": 1,
    "userCount": 1,
    "appCount": 1,
    **documents.KEYS_PROJECTION,
}
MEMBER_FIELDS: Final = {"u._id": 1, "u.account": 1, "roomId": 1, "roles": 1}
USER_FIELDS: Final = {"account": 1, "engName": 1, "chineseName": 1, "sectId": 1, "deptId": 1}
_ROW_FIELDS: Final = {"rid": 1, "member.id": 1}

EVERYBODY: Final = "everybody"
"""Where `read_named` has the accounts of whole rooms, one document a room."""

_LOOKS_A_CLAUSE: Final = 512
"""Rooms times accounts of one clause: the server plans each anew, and looks for all its accounts in each room."""

_SMALL_ROOM: Final = 256
"""Accounts per room that are worth reading before it is known how large the room is."""


async def read_named(
    database: Database,
    accounts_by_room: Mapping[str, Collection[str]],
    whole: Collection[str],
    session: Any,
    page: int,
) -> dict[str, list[Document]]:
    """Return what is found of rooms and accounts, by collection, and who is in the rooms of `whole`.

    At most `page` accounts of whole rooms are read; a room of which not everybody was read is left out.
    """
    most = _most(whole, page)
    found = await database.aggregate("rooms", named_pipeline(accounts_by_room, whole, most), session)
    parts: dict[str, list[Document]] = {
        part: [] for part in ("rooms", "room_members", "users", "subscriptions", EVERYBODY)
    }
    for document in found:
        parts[document.pop("_from")].append(document)
    parts["subscriptions"] = only_asked(parts["subscriptions"], accounts_by_room)
    if whole and sum(len(room["accounts"]) for room in parts[EVERYBODY]) == most:
        parts[EVERYBODY].remove(max(parts[EVERYBODY], key=itemgetter("_id")))
    return parts


def named_pipeline(
    accounts_by_room: Mapping[str, Collection[str]], whole: Collection[str], most: int
) -> list[Document]:
    """Return the pipeline on `rooms`, with `most` accounts of whole rooms; every part uses an index."""
    room_ids = sorted(accounts_by_room)
    accounts = sorted(set[str]().union(*accounts_by_room.values()))
    further = [
        _part("room_members", {"rid": {"$in": room_ids}, "member.type": ORG}, _ROW_FIELDS),
        _part("users", {"account": {"$in": accounts}}, USER_FIELDS),
        _part("subscriptions", {"$or": memberships_of(accounts_by_room)}, MEMBER_FIELDS),
    ]
    if whole:
        mark = {"$set": {"_from": {"$literal": EVERYBODY}}}
        further.append(("subscriptions", [*members.page_pipeline(sorted(whole), members.START, most), mark]))
    unions = [{"$unionWith": {"coll": collection, "pipeline": stages}} for collection, stages in further]
    return [*_part("rooms", {"_id": {"$in": room_ids}}, ROOM_FIELDS)[1], *unions]


def memberships_of(accounts_by_room: Mapping[str, Collection[str]]) -> list[Document]:
    """Return the clauses that find these accounts' memberships, many rooms to a clause.

    They also find those who are asked for in another room of their clause: see `only_asked`.
    """
    clauses: list[Document] = []
    room_ids: list[str] = []
    together: set[str] = set()
    for room_id, accounts in accounts_by_room.items():
        if not accounts:
            continue
        if room_ids and (len(room_ids) + 1) * len(together.union(accounts)) > _LOOKS_A_CLAUSE:
            clauses.append(_clause(room_ids, together))
            room_ids, together = [], set()
        room_ids.append(room_id)
        together.update(accounts)
    return [*clauses, _clause(room_ids, together)] if room_ids else []


def only_asked(found: Iterable[Document], accounts_by_room: Mapping[str, Collection[str]]) -> list[Document]:
    """Return the memberships of those who were asked for in the room that they are a member of."""
    return [item for item in found if item["u"]["account"] in accounts_by_room[item["roomId"]]]


def _clause(room_ids: list[str], accounts: Collection[str]) -> Document:
    return {"roomId": {"$in": room_ids}, "u.account": {"$in": sorted(accounts)}}


def _most(rooms: Collection[str], page: int) -> int:
    """Return how many accounts are read at most; a large room is better read page by page, and only once."""
    return min(len(rooms) * _SMALL_ROOM, page)


def _part(collection: str, query: Document, fields: Document) -> tuple[str, list[Document]]:
    return collection, [{"$match": query}, {"$project": {**fields, "_from": {"$literal": collection}}}]
