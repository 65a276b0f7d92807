"""The query for everything that a batch names: its rooms, their orgs, the users, and their memberships.

It is one query, because a round trip to the database costs more than what the query finds; a batch without orgs
needs no other. For the same reason it also finds all members of small rooms that may rotate. Which of them remain
follows from the decision. (docs/adr/0010-small-rooms-are-read-with-the-batch.md)
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from roomkeys.decisions.decision import ORG
from store import documents
from store.database import Database, Document
from store.reads import members
from store.reads.needs import Needs

AccountsByRoom = Mapping[str, Collection[str]]

_ROOM: Final = ("name", "type", "siteId", *documents.COUNTS)
ROOM_FIELDS: Final = {**dict.fromkeys(_ROOM, 1), **documents.KEYS_PROJECTION}
MEMBER_FIELDS: Final = {"u._id": 1, "u.account": 1, "roomId": 1, "roles": 1}
USER_FIELDS: Final = {"account": 1, "engName": 1, "chineseName": 1, "sectId": 1, "deptId": 1}
REASON_FIELDS: Final = {"rid": 1, "member.type": 1, "member.id": 1, "member.account": 1}

EVERYBODY: Final = "everybody"
"""The key under which `run_batch_query` returns the accounts of whole rooms, one document per room."""

_LOOKUPS_PER_CLAUSE: Final = 512
"""The most rooms times accounts in one clause: the server plans each clause, and looks in all its rooms for all of
its accounts. So few clauses are best, but none with many accounts that belong to few of its rooms."""

_SMALL_ROOM_ACCOUNTS: Final = 256
"""How many accounts per room are worth reading before the size of the room is known."""


async def run_batch_query(
    database: Database, needs: Needs, whole_rooms: Collection[str], session: Any, page: int
) -> dict[str, list[Document]]:
    """Return the documents of these rooms and accounts, by collection; and, at `EVERYBODY`, who is in whole rooms.

    At most `page` accounts of whole rooms are read. A room that was not read to its end is left out.
    """
    # Larger rooms are better read page by page, and only once.
    most = min(len(whole_rooms) * _SMALL_ROOM_ACCOUNTS, page)
    pipeline = batch_pipeline(needs.accounts, whole_rooms, most, needs.creating)
    sources = ("rooms", "room_members", "users", "subscriptions", EVERYBODY, documents.USED_IDS)
    found: dict[str, list[Document]] = {source: [] for source in sources}
    for document in await database.aggregate("rooms", pipeline, session):
        found[document.pop("_from")].append(document)
    found["subscriptions"] = only_requested(found["subscriptions"], needs.accounts)
    found[EVERYBODY] = _whole(found[EVERYBODY], most)
    return found


def _whole(rooms: Sequence[Document], most: int) -> list[Document]:
    """Return the rooms without the last one if they are `most` accounts, and without what is no room's."""
    whole = [room for room in rooms if type(room["_id"]) is str]
    if whole and sum(len(room["accounts"]) for room in rooms) == most:
        whole.remove(max(whole, key=itemgetter("_id")))
    return whole


def batch_pipeline(
    accounts_by_room: AccountsByRoom, whole_rooms: Collection[str], most: int, creating: Collection[str] = ()
) -> list[Document]:
    """Return the pipeline on `rooms`. Each `$unionWith` uses an index, and `_from` names the source of a document."""
    room_ids = sorted(accounts_by_room)
    accounts = sorted(set[str]().union(*accounts_by_room.values()))
    further = [
        _source("room_members", {"rid": {"$in": room_ids}, "member.type": ORG}, REASON_FIELDS),
        _source("users", {"account": {"$in": accounts}}, USER_FIELDS),
        _source("subscriptions", {"$or": membership_clauses(accounts_by_room)}, MEMBER_FIELDS),
    ]
    if creating:
        further.append(_source(documents.USED_IDS, {"_id": {"$in": sorted(creating)}}, {"_id": 1}))
    if whole_rooms:
        source = {"$set": {"_from": {"$literal": EVERYBODY}}}
        further.append(("subscriptions", [*members.whole_rooms_pipeline(sorted(whole_rooms), most), source]))
    unions = [{"$unionWith": {"coll": collection, "pipeline": stages}} for collection, stages in further]
    return [*_source("rooms", {"_id": {"$in": room_ids}}, ROOM_FIELDS)[1], *unions]


def membership_clauses(accounts_by_room: AccountsByRoom) -> list[Document]:
    """Return the clauses of an `$or` that finds the memberships of these accounts. Rooms share clauses.

    A clause also finds accounts in rooms for which only another room of the clause asked; `only_requested` removes
    them.
    """
    clauses: list[Document] = []
    room_ids: list[str] = []
    together: set[str] = set()
    for room_id, accounts in accounts_by_room.items():
        if not accounts:
            continue
        if room_ids and (len(room_ids) + 1) * len(together.union(accounts)) > _LOOKUPS_PER_CLAUSE:
            clauses.append(_clause(room_ids, together))
            room_ids, together = [], set()
        room_ids.append(room_id)
        together.update(accounts)
    return [*clauses, _clause(room_ids, together)] if room_ids else []


def only_requested(found: Iterable[Document], accounts_by_room: AccountsByRoom) -> list[Document]:
    """Return those memberships whose account was requested for this room, and what is nobody's."""
    keys = ((item, documents.membership_key(item)) for item in found)
    return [item for item, key in keys if key is None or key[1] in accounts_by_room[key[0]]]


def _clause(room_ids: list[str], accounts: Collection[str]) -> Document:
    return {"roomId": {"$in": room_ids}, "u.account": {"$in": sorted(accounts)}}


def _source(collection: str, query: Document, fields: Document) -> tuple[str, list[Document]]:
    return collection, [{"$match": query}, {"$project": {**fields, "_from": {"$literal": collection}}}]
