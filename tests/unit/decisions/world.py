"""A database in memory: returns snapshots for `decide` and applies decisions, with strict checks."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from roomkeys.decisions.decision import Decision, OutboxEntry, RoomChange
from roomkeys.decisions.snapshot import Snapshot
from roomkeys.events.event import Add, AnyEvent, Create, InvalidEvent, Remove
from roomkeys.keys import UNUSED, KeyRecord, RoomKey
from roomkeys.membership import Member, Room, User


@dataclass
class StoredRoom:
    room: Room  # its `orgs` and `keys` stay empty: both are computed
    members: dict[str, Member] = field(default_factory=dict)  # by subscription id
    reasons: set[tuple[str, str]] = field(default_factory=set)  # (type, user's or org's id)
    people: int = 0
    bots: int = 0
    high: int | None = None
    settled: int = UNUSED
    staged: int | None = None
    enc_version: int | None = None  # what `rooms.encKey` says
    enc_is_ours: bool = True
    sent: dict[str, set[int]] = field(default_factory=dict)  # account -> versions it was ever sent

    def keys(self) -> KeyRecord:
        versions = [version for version in (self.high, self.enc_version, self.staged) if version is not None]
        enc = None if self.enc_version is None else RoomKey(self.enc_version, b"k" * 32)
        return KeyRecord(
            high=self.high,
            settled=self.settled,
            current=enc if self.enc_is_ours else None,
            staged=None if self.staged is None else RoomKey(self.staged, b"s" * 32),
            replaced=() if enc is None or self.enc_is_ours else (enc,),
            highest_seen=max(versions, default=None),
        )

    def accounts(self) -> dict[str, Member]:
        return {member.account: member for member in self.members.values()}

    def ids(self, type_: str) -> frozenset[str]:
        return frozenset(id_ for kind, id_ in self.reasons if kind == type_)


def touched_by(batch: Iterable[AnyEvent]) -> tuple[set[str], set[str], set[str], set[str]]:
    """Return the named accounts and orgs, the rooms that orgs join, and the rooms that orgs leave."""
    accounts, orgs, gains, loses = set[str](), set[str](), set[str](), set[str]()
    for event in batch:
        if isinstance(event, InvalidEvent):
            continue
        accounts.add(event.requester)
        if isinstance(event, Create | Add):
            accounts |= set(event.accounts)
            orgs |= set(event.orgs)
            gains |= {event.room_id} if event.orgs else set()
        if isinstance(event, Remove):
            accounts |= set(event.accounts)
            orgs |= {event.org} if event.org else set()
            loses |= {event.room_id} if event.org else set()
    return accounts, orgs, gains, loses


class World:
    def __init__(self, rooms: Iterable[StoredRoom], users: Iterable[User]) -> None:
        self.rooms = {stored.room.id: stored for stored in rooms}
        self.users = {user.account: user for user in users}
        self.used_ids = {id_ for stored in self.rooms.values() for id_ in stored.members}

    def snapshot(self, batch: Iterable[AnyEvent]) -> Snapshot:
        """Return what `Snapshot` promises about what the batch touches, and nothing else."""
        named, orgs, gains, loses = touched_by(batch)
        of_orgs = {org: tuple(self._of(org)) for org in orgs}
        touched = named | {user.account for users in of_orgs.values() for user in users}
        rooms, members, individuals = {}, {}, {}
        for id_, stored in self.rooms.items():
            rooms[id_] = replace(stored.room, orgs=stored.ids("org"), keys=stored.keys())
            backfills = id_ in gains and (id_ in loses or not rooms[id_].orgs)
            members[id_] = {
                account: member for account, member in stored.accounts().items() if account in touched or backfills
            }
            known = {f"u-{account}": account for account in touched | members[id_].keys()}
            individuals[id_] = {known[row]: (row,) for row in stored.ids("individual") if row in known}
        users = {account: user for account, user in self.users.items() if account in named}
        return Snapshot(rooms, members, individuals, users, of_orgs)

    def _of(self, org: str) -> list[User]:
        return [user for user in self.users.values() if org in user.orgs and not user.is_bot]

    def apply(self, decision: Decision) -> None:
        """Write the changes. Then send joiners the current and the staged key, and members a newly staged one."""
        current = {room_id: stored.keys().current for room_id, stored in self.rooms.items()}
        for change in decision.changes:
            self._write(change)
        for entry in decision.entries:
            self._send(entry, current.get(entry.room_id or ""))
        for change in decision.changes:
            if change.stage is not None:
                self._pass(self.rooms[change.room.id])

    def _write(self, change: RoomChange) -> None:
        if change.creation is not None:
            assert change.room.id not in self.rooms
            self.rooms[change.room.id] = StoredRoom(replace(change.room, orgs=frozenset(), keys=KeyRecord()))
        stored = self.rooms[change.room.id]
        if change.reasons_cleared:
            stored.reasons = {reason for reason in stored.reasons if reason[0] != "individual"}
        stored.reasons -= {("org", org) for org in change.removed_orgs}
        stored.reasons -= {("individual", row) for row in change.removed_rows}
        for reason in change.reasons:
            assert (reason.type, reason.id) not in stored.reasons, "room_members is unique"
            stored.reasons.add((reason.type, reason.id))
        assert {stored.members[id_].account for id_ in change.deleted} == set(change.left)
        for id_ in change.deleted:
            del stored.members[id_]
        for new in change.joined:
            assert new.account not in stored.accounts(), "subscriptions is unique"
            assert new.id not in self.used_ids
            self.used_ids.add(new.id)
            stored.members[new.id] = Member(new.id, new.user_id, new.account, new.roles)
        for id_ in change.demoted:
            assert stored.members[id_].roles == ("owner",)
            stored.members[id_] = replace(stored.members[id_], roles=("member",))
        stored.people += change.users_delta
        stored.bots += change.apps_delta
        if change.high is not None:
            highest = stored.keys().highest_seen
            assert change.high > (UNUSED if highest is None else highest), "versions rise"
            stored.high = change.high
        if change.stage is not None:
            assert stored.staged is None, "a staged key settles before the next one is staged"
            assert change.stage == stored.high
            stored.staged = change.stage

    def _send(self, entry: OutboxEntry, current: RoomKey | None) -> None:
        """Send joiners the keys that they are owed: a pass may have read the members before they joined."""
        stored = self.rooms.get(entry.room_id or "")
        assert stored is not None or not entry.joiners
        for account in entry.joiners:
            assert stored is not None
            assert account in stored.accounts(), "joiners are members after the batch"
            versions = {current.version if current else None, stored.staged} - {None}
            stored.sent.setdefault(account, set()).update(v for v in versions if v is not None)
        assert len(set(entry.joiners)) == len(entry.joiners)

    def settle(self) -> None:
        """Make staged keys current. A room whose highest version is above that gets the next key staged."""
        for stored in self.rooms.values():
            if stored.staged is None or stored.high is None:
                continue
            stored.enc_version = stored.settled = stored.staged
            stored.enc_is_ours, stored.staged = True, None
            if stored.high > stored.settled:
                stored.staged = stored.high
                self._pass(stored)

    @staticmethod
    def _pass(stored: StoredRoom) -> None:
        assert stored.staged is not None
        for account in stored.accounts():
            stored.sent.setdefault(account, set()).add(stored.staged)
