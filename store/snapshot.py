"""The snapshot: all that the database holds of a batch's events, in a constant number of queries.

Read before the transaction, in the partition's causally consistent session: the loop is the only writer of
what it reads here. (design.md, rule a)
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from roomkeys.decide import MAX_ACCOUNTS
from roomkeys.decision import INDIVIDUAL, ORG
from roomkeys.events import Add, AnyEvent, Create, Poison, Remove
from roomkeys.people import Kind, Member, Room, Snapshot, User
from store import documents
from store.connect import Database, Document

_ROOM_FIELDS = {"name": 1, "type": 1, "siteId": 1, "userCount": 1, "appCount": 1, **documents.KEYS_PROJECTION}
_MEMBER_FIELDS = {"u._id": 1, "u.account": 1, "roomId": 1, "roles": 1}
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


async def load(
    database: Database,
    events: Sequence[AnyEvent],
    session: Any,
    among: Collection[str] | None = None,
    most: int = MAX_ACCOUNTS,
) -> Snapshot:
    """Read what the events need; events that need nothing cost nothing.

    Of orgs, backfills and rows no more than about `most` are read; where there are more the snapshot is
    `partial`. With `among` only these accounts are looked up as people of orgs and members of rooms.
    """
    want = wanted(events)
    if not want.accounts:
        return Snapshot()
    reader = _Reader(database, session, most)
    orgs_of_rooms = await reader.orgs_of_rooms(list(want.accounts))
    rooms = await reader.rooms(list(want.accounts), orgs_of_rooms)
    users, orgs, many_people = await reader.users(want, among)
    backfilled = {
        room_id for room_id in want.joining_orgs if not orgs_of_rooms.get(room_id) or room_id in want.leaving_orgs
    }
    cleared = {
        room_id
        for room_id in want.leaving_orgs
        if orgs_of_rooms.get(room_id, frozenset()).issubset(want.orgs.get(room_id, ()))
    }
    asked = {
        room_id: accounts
        | {user.account for org in want.orgs.get(room_id, ()) for user in orgs.get(org, ())}
        | set(among or ())
        for room_id, accounts in want.accounts.items()
    }
    members, many_members = await reader.members(asked, backfilled if among is None else set())
    user_ids = {
        room_id: {users[account].id for account in accounts if account in users}
        | {member.user_id for member in members.get(room_id, {}).values()}
        for room_id, accounts in asked.items()
        if orgs_of_rooms.get(room_id)
    }
    individuals = await reader.individuals(user_ids)
    apps = await reader.apps(want.bots)
    many_rows = among is None and await reader.many_rows(cleared)
    return Snapshot(
        rooms, members, individuals, users, orgs, apps, partial=many_people or many_members or many_rows
    )


async def load_rooms(database: Database, room_ids: Iterable[str], session: Any) -> dict[str, Room]:
    """Return rooms with their keys and without their orgs; no rooms: no query."""
    ids = list(room_ids)
    return await _Reader(database, session, MAX_ACCOUNTS).rooms(ids, {}) if ids else {}


@dataclass(frozen=True, slots=True)
class _Reader:
    """The queries of a snapshot, each for the whole batch at once."""

    database: Database
    session: Any
    most: int

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

    async def users(
        self, want: Wanted, among: Collection[str] | None
    ) -> tuple[dict[str, User], dict[str, tuple[User, ...]], bool]:
        """Return the users, those of each org, and whether the orgs have more."""
        accounts = set(among or ()).union(*want.accounts.values())
        org_ids = sorted(set[str]().union(*want.orgs.values()))
        found = await self._find("users", {"account": {"$in": sorted(accounts)}}, _USER_FIELDS)
        of_orgs: list[Document] = []
        if org_ids and among is None:
            query = {"$or": [{"sectId": {"$in": org_ids}}, {"deptId": {"$in": org_ids}}]}
            of_orgs = await self._find("users", query, _USER_FIELDS, limit=self.most + 1)
        known = sorted(filter(None, map(documents.user, found + of_orgs)), key=lambda user: user.account)
        users = {user.account: user for user in known}
        orgs = {
            org: tuple(user for user in users.values() if org in user.orgs and not user.is_bot) for org in org_ids
        }
        return users, orgs, len(of_orgs) > self.most

    async def members(
        self, asked: dict[str, set[str]], backfilled: set[str]
    ) -> tuple[dict[str, dict[str, Member]], bool]:
        """Return who of those asked for is a member, all members to be backfilled, and whether there are more."""
        clauses = [
            {"roomId": room_id, "u.account": {"$in": sorted(accounts)}}
            for room_id, accounts in asked.items()
            if room_id not in backfilled
        ]
        found = await self._find("subscriptions", {"$or": clauses}, _MEMBER_FIELDS) if clauses else []
        everybody: list[Document] = []
        if backfilled:
            query = {"roomId": {"$in": sorted(backfilled)}}
            everybody = await self._find("subscriptions", query, _MEMBER_FIELDS, limit=self.most + 1)
        members: defaultdict[str, dict[str, Member]] = defaultdict(dict)
        for item in found + everybody:
            member = documents.member(item)
            if member is not None:
                members[item["roomId"]][member.account] = member
        return dict(members), len(everybody) > self.most

    async def many_rows(self, room_ids: set[str]) -> bool:
        """Tell whether the rooms have more individual rows than one transaction should delete."""
        if not room_ids:
            return False
        query = {"rid": {"$in": sorted(room_ids)}, "member.type": INDIVIDUAL}
        return len(await self._find("room_members", query, {"_id": 1}, limit=self.most + 1)) > self.most

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

    async def _find(self, collection: str, query: Document, fields: Document, limit: int = 0) -> list[Document]:
        return await self.database.find(collection, query, fields, self.session, limit=limit)
