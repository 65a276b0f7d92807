"""The draft of a room: events change it one at a time, and `change` returns what has to be written.

What `change` returns is the difference between the room before the batch and the room now. An account that joins
and leaves within one batch leaves no trace in the database. One that leaves and comes back gets a new membership.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from roomkeys.decisions.decision import INDIVIDUAL, ORG, MembershipReason, RoomChange, RoomCreation
from roomkeys.decisions.snapshot import Snapshot
from roomkeys.membership import MEMBER_ROLES, OWNER_ROLES, Kind, Member, Membership, Room, User
from roomkeys.tokens import is_bot


class Draft:
    """One room as the batch leaves it so far. Without a room id, it is the draft of events that name no room."""

    def __init__(self, room_id: str | None, snapshot: Snapshot) -> None:
        id_ = room_id or ""
        self.room = snapshot.rooms.get(id_)
        self._members_before = snapshot.members.get(id_, {})
        self.members = dict(self._members_before)
        self.orgs = set(self.room.orgs) if self.room else set[str]()
        self._copies = snapshot.copies.get(id_, {})
        self._memberships: dict[str, Membership] = {}
        self._orgs_before = self.orgs | snapshot.leftover_orgs.get(id_, frozenset())
        self._rows_before = snapshot.individuals.get(id_, {})
        # By type and org or account. None: the reason was recorded before and still holds.
        self._reasons: dict[tuple[str, str], MembershipReason | None] = {}
        self._reasons |= dict.fromkeys((ORG, org) for org in sorted(self.orgs))
        self._reasons |= dict.fromkeys((INDIVIDUAL, account) for account in self._rows_before)
        self._reasons_cleared = False
        self._creation: RoomCreation | None = None
        self._raised: int | None = None
        self._highest = snapshot.highest
        self._is_used = room_id in snapshot.used_ids
        self._first_use = False
        self._key_recipients: dict[str, None] = {}

    def create(self, room: Room, creation: RoomCreation, at_ms: int) -> None:
        """Create the room; `at_ms` is the broker's time."""
        self.room, self._creation = room, creation
        if room.kind == Kind.CHANNEL:
            self.begin_versions(at_ms)

    def begin_versions(self, at_ms: int) -> None:
        """Give a new channel its first version: 0, unless another room has had its id; `at_ms` is the broker's time."""
        self._first_use = not self._is_used
        self._raised = self._floor(at_ms) if self._is_used else 0

    def _floor(self, at_ms: int) -> int:
        """Return a version above all that a room whose versions are not known can have used."""
        return max(at_ms // 1000, self._highest + 1)

    def join(self, membership: Membership) -> None:
        """Add a membership."""
        self._memberships[membership.account] = membership
        member = Member(membership.id, membership.user_id, membership.account, membership.roles)
        self.members[membership.account] = member

    def leave(self, account: str) -> Member:
        """End a membership, delete its individual reasons, and return it."""
        self.forget_reasons(account)
        return self.members.pop(account)

    def forget_reasons(self, account: str) -> None:
        """Delete the individual reasons of an account."""
        self._reasons.pop((INDIVIDUAL, account), None)

    def demote(self, account: str) -> None:
        """Make a member of an owner whom an org keeps in the room."""
        member = self.members[account]
        if member.roles is not None and OWNER_ROLES[0] in member.roles:
            self.members[account] = replace(member, roles=MEMBER_ROLES)

    def covers(self, user: User | None) -> bool:
        """Tell whether an org of the room makes the user a member. Orgs do not make bots members."""
        return user is not None and not user.is_bot and not user.orgs.isdisjoint(self.orgs)

    def is_individual(self, account: str) -> bool:
        """Tell whether the account has an individual reason to be a member, not only an org."""
        return (INDIVIDUAL, account) in self._reasons

    def add_individual(self, user_id: str, account: str, at_ms: int) -> None:
        """Record an individual reason, unless there is one."""
        self._reasons.setdefault((INDIVIDUAL, account), MembershipReason(INDIVIDUAL, user_id, account, at_ms))

    def add_org(self, org: str, at_ms: int) -> None:
        """Record an org. With the first org, exactly the members so far have individual reasons."""
        if org in self.orgs:
            return
        if not self.orgs:
            self._reasons_cleared = True
            for member in self.members.values():
                self.add_individual(member.user_id or member.account, member.account, at_ms)
        self.orgs.add(org)
        self._reasons[ORG, org] = MembershipReason(ORG, org, None, at_ms)

    def drop_org(self, org: str) -> None:
        """Delete an org. With the last org, all individual reasons go: a room without orgs records none."""
        self.orgs.discard(org)
        self._reasons.pop((ORG, org), None)
        if not self.orgs:
            self._reasons.clear()
            self._reasons_cleared = True

    def rotate(self, at_ms: int) -> None:
        """Raise the room's version; `at_ms` is the broker's time. Only the last version of a batch gets a key."""
        if self.room is not None:
            self._raised = self.room.keys.next_version(self._floor(at_ms)) if self._raised is None else self._raised + 1

    def send_key(self, account: str, at_ms: int) -> None:
        """Note that the account is owed the channel's key. A channel that has no key rotates."""
        if self.room is None or self.room.kind != Kind.CHANNEL:
            return
        self._key_recipients[account] = None
        if self._raised is None and not self.room.keys.has_key:
            self.rotate(at_ms)

    @property
    def created(self) -> bool:
        """Tell whether the batch creates the room."""
        return self._creation is not None

    @property
    def rotates(self) -> bool:
        """Tell whether the room's version has been raised."""
        return self._raised is not None

    @property
    def high(self) -> int | None:
        """Return the room's highest version: the one that this batch raised it to, or the one from before."""
        return self._raised if self._raised is not None or self.room is None else self.room.keys.high

    def joiners(self) -> tuple[str, ...]:
        """Return the members that are owed the key that the room had before the batch."""
        if self.room is None or not self.room.keys.has_key:
            return ()
        return tuple(account for account in self._key_recipients if account in self.members)

    def change(self) -> RoomChange | None:
        """Return what has to be written, or None if nothing has changed."""
        if self.room is None:
            return None
        before, now = self._members_before, self.members
        stayed = {account for account, member in now.items() if account in before and member.id is before[account].id}
        joined = [replace(self._memberships[one], roles=now[one].roles) for one in now if one not in stayed]
        left = [account for account in before if account not in stayed]
        apps_delta = sum(is_bot(one.account) for one in joined) - sum(map(is_bot, left))
        demoted = [account for account in before if account in stayed and now[account].roles != before[account].roles]
        change = RoomChange(
            room=self.room,
            creation=self._creation,
            joined=tuple(joined),
            left=tuple(left),
            deleted=tuple(self._documents([*left, *(one.account for one in joined if one.account not in before)])),
            demoted=tuple(self._documents(demoted)),
            reasons=tuple(reason for reason in self._reasons.values() if reason is not None),
            removed_orgs=tuple(org for org in sorted(self._orgs_before) if self._is_gone(ORG, org)),
            removed_rows=tuple(
                row for account, rows in self._rows_before.items() if self._is_gone(INDIVIDUAL, account) for row in rows
            ),
            reasons_cleared=self._reasons_cleared,
            users_delta=len(joined) - len(left) - apps_delta,
            apps_delta=apps_delta,
            high=self._raised,
            stage=self._raised if self.room.keys.staged is None else None,
            first_use=self._first_use,
        )
        return None if change == RoomChange(self.room) else change

    def _documents(self, accounts: Iterable[str]) -> Iterator[Any]:
        """Yield the `_id`s of all documents in `subscriptions` that stand for the memberships of these accounts."""
        for account in accounts:
            if account in self._members_before:
                yield self._members_before[account].id
            yield from self._copies.get(account, ())

    def _is_gone(self, type_: str, name: str) -> bool:
        if self._reasons_cleared and type_ == INDIVIDUAL:
            return False
        key = (type_, name)
        return key not in self._reasons or self._reasons[key] is not None  # it came back: it is inserted again
