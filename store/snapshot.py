"""The snapshot: all that the database holds of a batch's events, in a constant number of queries.

Read before the transaction, in the partition's causally consistent session: the loop is the only writer of
what it reads here. (design.md, rule a)
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from roomkeys.decision import INDIVIDUAL, ORG
from roomkeys.events import Add, AnyEvent, Create, Poison, Remove
from roomkeys.keys import KeyRecord
from roomkeys.people import Kind, Member, Room, Snapshot, User
from store import documents
from store.connect import Database, Document

_ROOM_FIELDS = {"name": 1, "type": 1, "siteId": 1, **documents.KEYS_PROJECTION}
_USER_FIELDS = {"account": 1, "engName": 1, "chineseName": 1, "sectId": 1, "deptId": 1}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a batch's events need to know, by room where it belongs to one."""

    accounts: dict[str, set[str]]
    orgs: dict[str, set[str]]
    joining_orgs: frozenset[str]
    leaving_orgs: frozenset[str]
    bots: frozenset[str]


def wanted(events: Iterable[AnyEvent]) -> Wanted:
    """Return what the events need to know."""
    accounts: defaultdict[str, set[str]] = defaultdict(set)
    orgs: defaultdict[str, set[str]] = defaultdict(set)
    joining, leaving, bots = set[str](), set[str](), set[str]()
    for event in events:
        if isinstance(event, Poison):
            continue
        accounts[event.room_id] |= {event.requester, *event.accounts}
        if isinstance(event, Create | Add):
            orgs[event.room_id] |= set(event.orgs)
            joining |= {event.room_id} if event.orgs else set()
        elif isinstance(event, Remove) and event.org:
            orgs[event.room_id].add(event.org)
            leaving.add(event.room_id)
        if isinstance(event, Create) and event.kind == Kind.BOT_DM:
            bots |= {event.requester, *event.accounts}
    return Wanted(dict(accounts), dict(orgs), frozenset(joining), frozenset(leaving), frozenset(bots))


async def load(database: Database, events: Sequence[AnyEvent], session: Any) -> Snapshot:
    """Read what the events need; events that need nothing cost nothing."""
    want = wanted(events)
    if not want.accounts:
        return Snapshot()
    reader = _Reader(database, session)
    orgs_of_rooms = await reader.orgs_of_rooms(list(want.accounts))
    rooms = await reader.rooms(list(want.accounts), orgs_of_rooms)
    users, orgs = await reader.users(want)
    backfilled = {
        room_id for room_id in want.joining_orgs if not orgs_of_rooms.get(room_id) or room_id in want.leaving_orgs
    }
    asked = {
        room_id: accounts | {user.account for org in want.orgs.get(room_id, ()) for user in orgs.get(org, ())}
        for room_id, accounts in want.accounts.items()
    }
    members = await reader.members(asked, backfilled)
    user_ids = {
        room_id: {users[account].id for account in accounts if account in users}
        | {member.user_id for member in members.get(room_id, {}).values()}
        for room_id, accounts in asked.items()
        if orgs_of_rooms.get(room_id)
    }
    individuals = await reader.individuals(user_ids)
    apps = await reader.apps(want.bots)
    return Snapshot(rooms, members, individuals, users, orgs, apps)


async def key_records(database: Database, room_ids: Iterable[str], session: Any) -> dict[str, KeyRecord]:
    """Return what the rooms' documents say about their keys; no rooms: no query."""
    ids = list(room_ids)
    if not ids:
        return {}
    found = await database.find("rooms", {"_id": {"$in": ids}}, documents.KEYS_PROJECTION, session)
    return {document["_id"]: documents.key_record(document) for document in found}


@dataclass(frozen=True, slots=True)
class _Reader:
    """The queries of a snapshot, each for the whole batch at once."""

    database: Database
    session: Any

    async def orgs_of_rooms(self, room_ids: list[str]) -> dict[str, frozenset[str]]:
        query = {"rid": {"$in": room_ids}, "member.type": ORG}
        rows = await self._find("room_members", query, {"_id": 0, "rid": 1, "member.id": 1})
        orgs: defaultdict[str, set[str]] = defaultdict(set)
        for row in rows:
            orgs[row["rid"]].add(row["member"]["id"])
        return {room_id: frozenset(of_room) for room_id, of_room in orgs.items()}

    async def rooms(self, room_ids: list[str], orgs: dict[str, frozenset[str]]) -> dict[str, Room]:
        found = await self._find("rooms", {"_id": {"$in": room_ids}}, _ROOM_FIELDS)
        none: frozenset[str] = frozenset()
        return {item["_id"]: documents.room(item, orgs.get(item["_id"], none)) for item in found}

    async def users(self, want: Wanted) -> tuple[dict[str, User], dict[str, tuple[User, ...]]]:
        accounts = set[str]().union(*want.accounts.values())
        org_ids = sorted(set[str]().union(*want.orgs.values()))
        clauses: list[Document] = [{"account": {"$in": sorted(accounts)}}]
        if org_ids:
            clauses += [{"sectId": {"$in": org_ids}}, {"deptId": {"$in": org_ids}}]
        found = await self._find("users", {"$or": clauses}, _USER_FIELDS)
        people = sorted(filter(None, map(documents.user, found)), key=lambda user: user.account)
        users = {user.account: user for user in people}
        return users, {
            org: tuple(user for user in users.values() if org in user.orgs and not user.is_bot) for org in org_ids
        }

    async def members(self, asked: dict[str, set[str]], backfilled: set[str]) -> dict[str, dict[str, Member]]:
        clauses = [
            {"roomId": room_id}
            if room_id in backfilled
            else {"roomId": room_id, "u.account": {"$in": sorted(accounts)}}
            for room_id, accounts in asked.items()
        ]
        fields = {"u._id": 1, "u.account": 1, "roomId": 1, "roles": 1}
        members: defaultdict[str, dict[str, Member]] = defaultdict(dict)
        for item in await self._find("subscriptions", {"$or": clauses}, fields):
            member = documents.member(item)
            if member is not None:
                members[item["roomId"]][member.account] = member
        return dict(members)

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
        return {item["assistant"]["name"]: item["name"] for item in found if item.get("name")}

    async def _find(self, collection: str, query: Document, fields: Document) -> list[Document]:
        return await self.database.find(collection, query, fields, self.session)
