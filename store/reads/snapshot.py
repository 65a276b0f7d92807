"""The snapshot: all that the database holds of a batch's events, in a constant number of queries.

Read before the transaction, in the partition's causally consistent session: the loop is the only writer of
what it reads here. (design.md, rule a)
"""

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from roomkeys.decisions.decide import MAX_ACCOUNTS
from roomkeys.decisions.decision import INDIVIDUAL
from roomkeys.decisions.snapshot import Snapshot
from roomkeys.events.event import Add, AnyEvent, Create, InvalidEvent, Remove, Rotate
from roomkeys.membership import Kind, Member, Room, User
from store import documents
from store.database import Database, Document
from store.reads.batch_query import (
    EVERYBODY,
    MEMBER_FIELDS,
    ROOM_FIELDS,
    USER_FIELDS,
    memberships_of,
    only_asked,
    read_named,
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a batch's events need to know, by room where it belongs to one."""

    accounts: dict[str, set[str]]
    orgs: dict[str, set[str]]
    joining_orgs: frozenset[str]
    leaving_orgs: frozenset[str]
    bots: frozenset[str]
    rotating: frozenset[str]


def wanted(events: Iterable[AnyEvent]) -> Wanted:
    """Return what the events need to know."""
    accounts: defaultdict[str, set[str]] = defaultdict(set)
    orgs: defaultdict[str, set[str]] = defaultdict(set)
    joining, leaving, bots, rotating = set[str](), set[str](), set[str](), set[str]()
    for event in events:
        if isinstance(event, InvalidEvent):
            continue
        accounts[event.room_id] |= {event.requester, *event.accounts}
        if isinstance(event, Create | Add):
            orgs[event.room_id] |= set(event.orgs)
            joining |= {event.room_id} if event.orgs else set()
        elif isinstance(event, Remove) and event.org:
            orgs[event.room_id].add(event.org)
            leaving.add(event.room_id)
        if isinstance(event, Remove | Rotate):
            rotating.add(event.room_id)
        if isinstance(event, Create) and event.kind == Kind.BOT_DM:
            bots |= {event.requester, *event.accounts}
    return Wanted(
        dict(accounts), dict(orgs), frozenset(joining), frozenset(leaving), frozenset(bots), frozenset(rotating)
    )


async def load(
    database: Database,
    events: Sequence[AnyEvent],
    session: Any,
    among: Collection[str] | None = None,
    most: int = MAX_ACCOUNTS,
    drained: Container[str] = (),
) -> Snapshot:
    """Read what the events need; events that need nothing cost nothing.

    Of orgs, backfills and rows no more than about `most` are read; where there are more the snapshot is
    `partial`. With `among` only these accounts are looked up as people of orgs and members of rooms. Who is in
    a `drained` room its drainer reads.
    """
    want = wanted(events)
    if not want.accounts:
        return Snapshot()
    reader = _Reader(database, session, most)
    named = {room_id: accounts | set(among or ()) for room_id, accounts in want.accounts.items()}
    whole = [] if among is not None else [room_id for room_id in want.rotating if room_id not in drained]
    found = await read_named(database, named, whole, session)
    orgs_of_rooms = _orgs_of_rooms(found["room_members"])
    none = frozenset[str]()
    rooms = {item["_id"]: documents.room(item, orgs_of_rooms.get(item["_id"], none)) for item in found["rooms"]}
    people = await reader.people(want) if among is None else []
    users = _users(found["users"] + people)
    orgs = {
        org: tuple(user for user in users.values() if org in user.orgs and not user.is_bot)
        for org in sorted(set[str]().union(*want.orgs.values()))
    }
    of_orgs = {
        room_id: {user.account for org in of_room for user in orgs[org]} - named[room_id]
        for room_id, of_room in want.orgs.items()
    }
    backfilled = await reader.backfilled(_backfilled(want, orgs_of_rooms)) if among is None else []
    members = _members(found["subscriptions"] + await reader.memberships(of_orgs) + backfilled)
    user_ids = {
        room_id: {users[account].id for account in accounts | of_orgs.get(room_id, set()) if account in users}
        | {member.user_id for member in members.get(room_id, {}).values()}
        for room_id, accounts in named.items()
        if orgs_of_rooms.get(room_id)
    }
    individuals = await reader.individuals(user_ids)
    apps = await reader.apps(want.bots)
    rows = await reader.rows_to_clear(_cleared(want, orgs_of_rooms)) if among is None else []
    partial = max(len(people), len(backfilled), len(rows)) > most
    everybody = {item["_id"]: item["accounts"] for item in found[EVERYBODY]}
    return Snapshot(rooms, members, individuals, users, orgs, apps, everybody, partial)


async def load_rooms(database: Database, room_ids: Iterable[str], session: Any) -> dict[str, Room]:
    """Return rooms with their keys and without their orgs; no rooms: no query."""
    ids = list(room_ids)
    found = await database.find("rooms", {"_id": {"$in": ids}}, ROOM_FIELDS, session) if ids else []
    return {item["_id"]: documents.room(item, frozenset()) for item in found}


def _backfilled(want: Wanted, orgs_of_rooms: Mapping[str, frozenset[str]]) -> set[str]:
    """Return the rooms in which everybody may need a row: the first org joins, or may be the first by then."""
    return {
        room_id for room_id in want.joining_orgs if not orgs_of_rooms.get(room_id) or room_id in want.leaving_orgs
    }


def _cleared(want: Wanted, orgs_of_rooms: Mapping[str, frozenset[str]]) -> set[str]:
    """Return the rooms whose last org may go, and all individual rows with it."""
    return {
        room_id
        for room_id in want.leaving_orgs
        if orgs_of_rooms.get(room_id, frozenset()).issubset(want.orgs.get(room_id, ()))
    }


def _orgs_of_rooms(rows: Iterable[Document]) -> dict[str, frozenset[str]]:
    orgs: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        orgs[row["rid"]].add(row["member"]["id"])
    return {room_id: frozenset(of_room) for room_id, of_room in orgs.items()}


def _users(found: Iterable[Document]) -> dict[str, User]:
    users = sorted(filter(None, map(documents.user, found)), key=lambda user: user.account)
    return {user.account: user for user in users}


def _members(found: Iterable[Document]) -> dict[str, dict[str, Member]]:
    members: defaultdict[str, dict[str, Member]] = defaultdict(dict)
    for item in found:
        member = documents.member(item)
        if member is not None:
            members[item["roomId"]][member.account] = member
    return dict(members)


@dataclass(frozen=True, slots=True)
class _Reader:
    """The further queries of a batch with orgs or bots, each for all of it; nothing asked for, no query."""

    database: Database
    session: Any
    most: int

    async def people(self, want: Wanted) -> list[Document]:
        org_ids = sorted(set[str]().union(*want.orgs.values()))
        query = {"$or": [{"sectId": {"$in": org_ids}}, {"deptId": {"$in": org_ids}}]}
        return await self._find("users", query, USER_FIELDS, limit=self.most + 1) if org_ids else []

    async def memberships(self, asked: Mapping[str, set[str]]) -> list[Document]:
        clauses = memberships_of(asked)
        found = await self._find("subscriptions", {"$or": clauses}, MEMBER_FIELDS) if clauses else []
        return only_asked(found, asked)

    async def backfilled(self, room_ids: set[str]) -> list[Document]:
        query = {"roomId": {"$in": sorted(room_ids)}}
        return await self._find("subscriptions", query, MEMBER_FIELDS, limit=self.most + 1) if room_ids else []

    async def rows_to_clear(self, room_ids: set[str]) -> list[Document]:
        query = {"rid": {"$in": sorted(room_ids)}, "member.type": INDIVIDUAL}
        return await self._find("room_members", query, {"_id": 1}, limit=self.most + 1) if room_ids else []

    async def individuals(self, user_ids: dict[str, set[str]]) -> dict[str, frozenset[str]]:
        clauses = [
            {"rid": room_id, "member.type": INDIVIDUAL, "member.id": {"$in": sorted(ids)}}
            for room_id, ids in user_ids.items()
            if ids
        ]
        if not clauses:
            return {}
        rows = await self._find("room_members", {"$or": clauses}, {"_id": 0, "rid": 1, "member.id": 1})
        individuals: defaultdict[str, set[str]] = defaultdict(set)
        for row in rows:
            individuals[row["rid"]].add(row["member"]["id"])
        return {room_id: frozenset(ids) for room_id, ids in individuals.items()}

    async def apps(self, bots: frozenset[str]) -> dict[str, str]:
        if not bots:
            return {}
        found = await self._find(
            "apps", {"assistant.name": {"$in": sorted(bots)}}, {"name": 1, "assistant.name": 1}
        )
        return {item["assistant"]["name"]: str(item["name"]) for item in found if item.get("name")}

    async def _find(self, collection: str, query: Document, fields: Document, limit: int = 0) -> list[Document]:
        return await self.database.find(collection, query, fields, self.session, limit=limit)
