"""Loading snapshots: everything that the database holds about a batch or a slice, in a constant number of queries.

A snapshot is read before the transaction, in the causally consistent session of the lease. That is safe because
the loop is the only writer of what is read here. (docs/design.md, rule a)
"""

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from roomkeys.decisions.decide import MAX_ACCOUNTS
from roomkeys.decisions.decision import INDIVIDUAL, ORG
from roomkeys.decisions.slices import Sliceable, among
from roomkeys.decisions.snapshot import Snapshot
from roomkeys.events.event import AnyEvent
from roomkeys.keys import UNUSED
from roomkeys.membership import OWNER_ROLES, Member, Room, User
from roomkeys.tokens import BOT_PATTERN
from store import documents
from store.database import Database, Document
from store.documents import COUNTS, USED_IDS
from store.leases.lease import CURSORS
from store.reads import batch_query
from store.reads.batch_query import EVERYBODY, MEMBER_FIELDS, REASON_FIELDS, ROOM_FIELDS, USER_FIELDS, run_batch_query
from store.reads.needs import Needs, needs_of

_Found = Mapping[str, list[Document]]
_Users = tuple[User, ...]
_AccountsById = dict[str, set[str]]
_Individuals = Mapping[str, Mapping[str, Sequence[Any]]]


async def load_batch(
    database: Database,
    events: Sequence[AnyEvent],
    session: Any,
    *,
    most: int = MAX_ACCOUNTS,
    page: int,
    large_rooms: Container[str] = (),
) -> Snapshot:
    """Read what a batch of events needs. If no event needs anything, nothing is read.

    Of each of these, at most about `most` documents are read: users of orgs, members to backfill, reasons to
    clear. If there are more, the snapshot is `partial`. Of small rooms that may rotate, all members are read, up
    to `page` accounts together; the members of `large_rooms` are left to the rollouts.
    """
    needs = needs_of(events)
    if not needs.accounts:
        return Snapshot()
    queries = _Queries(database, session, limit=most + 1)
    whole_rooms = [room_id for room_id in needs.rotating if room_id not in large_rooms]
    found = await run_batch_query(database, needs, whole_rooms, session, page)
    orgs_of_rooms = _orgs_of_rooms(found["room_members"])
    org_users = await queries.org_users(needs)
    users = _users(found["users"] + org_users)
    orgs = _users_by_org(needs, users)
    backfill = await queries.members_of(_rooms_to_backfill(needs, orgs_of_rooms))
    found["subscriptions"] += await queries.memberships(_unnamed_org_accounts(needs, orgs))
    found["subscriptions"] += backfill
    snapshot = await _assemble(queries, needs, found, users, orgs)
    to_clear = await queries.individual_reasons(_rooms_to_clear(needs, orgs_of_rooms))
    return replace(snapshot, partial=max(len(org_users), len(backfill), len(to_clear)) > most)


async def load_slice(database: Database, event: Sliceable, accounts: Collection[str], session: Any) -> Snapshot:
    """Read what one slice needs: the room, the requester and `accounts`, but no accounts of other slices."""
    needs = needs_of([among(event, accounts)])
    needs = replace(needs, accounts={room_id: named.union(accounts) for room_id, named in needs.accounts.items()})
    found = await run_batch_query(database, needs, (), session, page=0)
    users = _users(found["users"])
    return await _assemble(_Queries(database, session), needs, found, users, _users_by_org(needs, users))


async def _assemble(
    queries: "_Queries", needs: Needs, found: _Found, users: Mapping[str, User], orgs: Mapping[str, _Users]
) -> Snapshot:
    """Return the snapshot of what was found. Individual reasons and apps are read here."""
    orgs_of_rooms = _orgs_of_rooms(found["room_members"])
    no_orgs = frozenset[str]()
    rooms = {item["_id"]: documents.room(item, orgs_of_rooms.get(item["_id"], no_orgs)) for item in found["rooms"]}
    uncounted = [item["_id"] for item in found["rooms"] if None in map(documents.count, map(item.get, COUNTS))]
    for room_id, counts in (await queries.counts(uncounted)).items():
        rooms[room_id] = replace(rooms[room_id], size=sum(counts), recounted=counts)
    members, copies = _members(found["subscriptions"])
    known_ids = {
        room_id: _accounts_by_id(_touched(needs, room_id, users, orgs), members.get(room_id, {}).values())
        for room_id in needs.accounts.keys() & orgs_of_rooms
    }
    individuals = await queries.individuals(known_ids)
    apps = await queries.apps(needs.bots)
    everybody = {item["_id"]: item["accounts"] for item in found[EVERYBODY]}
    leftover_orgs = {room_id: of_room for room_id, of_room in orgs_of_rooms.items() if room_id not in rooms}
    found_rooms = Snapshot(rooms, members, individuals, users, orgs, apps, everybody)
    used_ids = frozenset(item["_id"] for item in found[USED_IDS])
    is_lost = any(room.keys.highest_seen is None or room.keys.high_lost for room in rooms.values())
    return replace(
        found_rooms,
        copies=copies,
        leftover_orgs=leftover_orgs,
        clashes=await queries.clashes(needs.creating - rooms.keys()),
        used_ids=used_ids,
        highest=await queries.highest_version() if used_ids or is_lost else UNUSED,
    )


async def load_rooms(database: Database, room_ids: Iterable[str], session: Any) -> dict[str, Room]:
    """Return rooms by their ids, with their keys and without their orgs. Without ids, nothing is read."""
    ids = list(room_ids)
    found = await database.find("rooms", {"_id": {"$in": ids}}, ROOM_FIELDS, session) if ids else []
    return {item["_id"]: documents.room(item, frozenset()) for item in found}


def _rooms_to_backfill(needs: Needs, orgs_of_rooms: Mapping[str, frozenset[str]]) -> set[str]:
    """Return the rooms whose first org may join: every member may need an individual reason."""
    return {room for room in needs.joining_orgs if room not in orgs_of_rooms or room in needs.leaving_orgs}


def _rooms_to_clear(needs: Needs, orgs_of_rooms: Mapping[str, frozenset[str]]) -> set[str]:
    """Return the rooms whose last org may leave: all individual reasons go with it."""
    return {room for room in needs.leaving_orgs if orgs_of_rooms.get(room, frozenset()) <= needs.orgs[room]}


def _users_by_org(needs: Needs, users: Mapping[str, User]) -> dict[str, _Users]:
    orgs = sorted(set[str]().union(*needs.orgs.values()))
    people = [user for user in users.values() if not user.is_bot]
    return {org: tuple(user for user in people if org in user.orgs) for org in orgs}


def _unnamed_org_accounts(needs: Needs, orgs: Mapping[str, _Users]) -> dict[str, set[str]]:
    """Return, by room, the accounts that an event touches through an org only."""
    return {
        room_id: {user.account for org in of_room for user in orgs[org]} - needs.accounts[room_id]
        for room_id, of_room in needs.orgs.items()
    }


def _touched(needs: Needs, room_id: str, users: Mapping[str, User], orgs: Mapping[str, _Users]) -> Iterator[User]:
    """Yield the users that events name in this room, in person or through an org."""
    yield from (users[account] for account in needs.accounts[room_id] if account in users)
    yield from (user for org in needs.orgs.get(room_id, ()) for user in orgs[org])


def _accounts_by_id(users: Iterable[User], members: Iterable[Member]) -> _AccountsById:
    """Return the accounts by the ids of their users: those of today, and those from when they became members."""
    accounts: _AccountsById = {}
    for user in users:
        accounts.setdefault(user.id, set()).add(user.account)
    for member in members:
        accounts.setdefault(member.user_id, set()).add(member.account)
    return accounts


def _orgs_of_rooms(found: Iterable[Document]) -> dict[str, frozenset[str]]:
    orgs: defaultdict[str, set[str]] = defaultdict(set)
    for item in found:
        reason = documents.reason(item)
        if reason is not None and reason.type == ORG:
            orgs[item["rid"]].add(reason.id)
    return {room_id: frozenset(of_room) for room_id, of_room in orgs.items()}


def _users(found: Iterable[Document]) -> dict[str, User]:
    """Return users by account. The orgs of an account that has several documents are those of all of them."""
    users: dict[str, User] = {}
    for user in sorted(filter(None, map(documents.user, found)), key=lambda user: user.account):
        other = users.get(user.account)
        users[user.account] = user if other is None else replace(user, orgs=user.orgs | other.orgs)
    return users


def _members(found: Iterable[Document]) -> tuple[dict[str, dict[str, Member]], dict[str, dict[str, list[Any]]]]:
    """Return members, and the `_id`s of further documents: duplicates, and those that obstruct a membership."""
    members: dict[str, dict[str, Member]] = {}
    copies: dict[str, dict[str, list[Any]]] = {}
    for item in found:
        member = documents.member(item)
        if member is None:
            for room_id, account in documents.obstructed(item):
                copies.setdefault(room_id, {}).setdefault(account, []).append(item["_id"])
            continue
        of_room = members.setdefault(item["roomId"], {})
        first = of_room.setdefault(member.account, member)
        if first.id != member.id:
            copies.setdefault(item["roomId"], {}).setdefault(member.account, []).append(member.id)
            if first.roles != OWNER_ROLES and member.roles == OWNER_ROLES:
                of_room[member.account] = replace(first, roles=OWNER_ROLES)
    return members, copies


def _individuals(found: Iterable[Document], accounts_by_id: Mapping[str, _AccountsById]) -> _Individuals:
    """Return the `_id`s of individual reasons by account. An old reason belongs to the accounts that had its id."""
    individuals: dict[str, dict[str, list[Any]]] = {}
    for item in found:
        reason = documents.reason(item)
        if reason is None or reason.type != INDIVIDUAL or item["rid"] not in accounts_by_id:
            continue
        accounts = accounts_by_id[item["rid"]].get(reason.id, ()) if reason.account is None else (reason.account,)
        for account in accounts:
            individuals.setdefault(item["rid"], {}).setdefault(account, []).append(item["_id"])
    return individuals


@dataclass(frozen=True, slots=True)
class _Queries:
    """The further queries of a batch: one of each, or none. `limit` bounds results that nothing else bounds."""

    database: Database
    session: Any
    limit: int = 0

    async def org_users(self, needs: Needs) -> list[Document]:
        org_ids = sorted(set[str]().union(*needs.orgs.values()))
        query = {"$or": [{"sectId": {"$in": org_ids}}, {"deptId": {"$in": org_ids}}]}
        return await self._find("users", query, USER_FIELDS, limit=self.limit) if org_ids else []

    async def memberships(self, asked: Mapping[str, set[str]]) -> list[Document]:
        clauses = batch_query.membership_clauses(asked)
        found = await self._find("subscriptions", {"$or": clauses}, MEMBER_FIELDS) if clauses else []
        return batch_query.only_requested(found, asked)

    async def members_of(self, room_ids: set[str]) -> list[Document]:
        query = {"roomId": {"$in": sorted(room_ids)}}
        return await self._find("subscriptions", query, MEMBER_FIELDS, limit=self.limit) if room_ids else []

    async def individual_reasons(self, room_ids: set[str]) -> list[Document]:
        query = {"rid": {"$in": sorted(room_ids)}, "member.type": INDIVIDUAL}
        return await self._find("room_members", query, {"_id": 1}, limit=self.limit) if room_ids else []

    async def individuals(self, known: Mapping[str, _AccountsById]) -> _Individuals:
        clauses: list[Document] = []
        for room_id, accounts_by_id in known.items():
            accounts = sorted(set[str]().union(*accounts_by_id.values()))
            clauses += [
                {"rid": room_id, "member.account": {"$in": accounts}},
                {"rid": room_id, "member.type": INDIVIDUAL, "member.id": {"$in": sorted(accounts_by_id)}},
            ]
        found = await self._find("room_members", {"$or": clauses}, REASON_FIELDS) if clauses else []
        return _individuals(found, known)

    async def counts(self, room_ids: list[str]) -> dict[str, tuple[int, int]]:
        """Count the people and the bots of rooms again."""
        is_bot = {"$regexMatch": {"input": "$u.account", "regex": BOT_PATTERN}}
        pipeline: list[Document] = [
            {"$match": {"roomId": {"$in": room_ids}, **documents.only_texts("roomId", "u.account")}},
            {"$group": {"_id": "$roomId", "all": {"$sum": 1}, "bots": {"$sum": {"$cond": [is_bot, 1, 0]}}}},
        ]
        found = await self.database.aggregate("subscriptions", pipeline, self.session) if room_ids else []
        counted = {item["_id"]: (item["all"] - item["bots"], item["bots"]) for item in found}
        return {room_id: counted.get(room_id, (0, 0)) for room_id in room_ids}

    async def highest_version(self) -> int:
        """Return the highest version that any room of the database has used."""
        group = {"$group": {"_id": None, "highest": {"$max": "$highest"}}}
        found = await self.database.aggregate(CURSORS, [group], self.session)
        highest = documents.key_version({"ver": found[0]["highest"]}) if found else None
        return UNUSED if highest is None else highest

    async def clashes(self, room_ids: set[str]) -> frozenset[str]:
        """Return those ids of new rooms that the collation of the collection takes for the id of another room."""
        if "rooms" not in self.database.collated:
            return frozenset()
        return frozenset({room_id for room_id in room_ids if await self.database.has_similar("rooms", room_id)})

    async def apps(self, bots: set[str]) -> dict[str, str]:
        query, fields = {"assistant.name": {"$in": sorted(bots)}}, {"name": 1, "assistant.name": 1}
        found = await self._find("apps", query, fields) if bots else []
        return dict(filter(None, map(documents.app, found)))

    async def _find(self, collection: str, query: Document, fields: Document, limit: int = 0) -> list[Document]:
        return await self.database.find(collection, query, fields, self.session, limit=limit)
