"""The draft of a room: events change it one at a time, and `change` returns what has to be written.

What `change` returns is the difference between the room before the batch and the room now. An account that joins
and leaves within one batch leaves no trace in the database. One that leaves and comes back gets a new membership.
"""

from collections.abc import Mapping
from dataclasses import replace

from roomkeys.decisions.decision import INDIVIDUAL, ORG, MembershipReason, RoomChange, RoomCreation
from roomkeys.membership import MEMBER_ROLES, OWNER_ROLES, Kind, Member, Membership, Room, User
from roomkeys.tokens import is_bot


class Draft:
    """One room as the batch leaves it so far. `individuals`: the user ids of members with an individual reason."""

    def __init__(self, room: Room | None, members: Mapping[str, Member], individuals: frozenset[str]) -> None:
        self.room = room
        self.members = dict(members)
        self.orgs = set(room.orgs) if room else set[str]()
        self._members_before = members
        self._memberships: dict[str, Membership] = {}
        self._reasons_before = [(ORG, org) for org in sorted(self.orgs)]
        self._reasons_before += [(INDIVIDUAL, user_id) for user_id in individuals]
        # None: the reason was recorded before and still holds.
        self._reasons: dict[tuple[str, str], MembershipReason | None] = dict.fromkeys(self._reasons_before)
        self._reasons_cleared = False
        self._creation: RoomCreation | None = None
        self._raised: int | None = None
        self._key_recipients: dict[str, None] = {}

    def create(self, room: Room, creation: RoomCreation) -> None:
        """Create the room. A channel starts with key version 0."""
        self.room, self._creation = room, creation
        if room.kind == Kind.CHANNEL:
            self._raised = 0

    def join(self, membership: Membership) -> None:
        """Add a membership."""
        self._memberships[membership.id] = membership
        member = Member(membership.id, membership.user_id, membership.account, membership.roles)
        self.members[membership.account] = member

    def leave(self, account: str) -> Member:
        """End a membership, delete its individual reason, and return it."""
        member = self.members.pop(account)
        self._reasons.pop((INDIVIDUAL, member.user_id), None)
        return member

    def demote(self, account: str) -> None:
        """Delete the individual reason of a member whom an org keeps in the room; an owner becomes a member."""
        member = self.members[account]
        self._reasons.pop((INDIVIDUAL, member.user_id), None)
        if member.roles is not None and OWNER_ROLES[0] in member.roles:
            self.members[account] = replace(member, roles=MEMBER_ROLES)

    def covers(self, user: User | None) -> bool:
        """Tell whether an org of the room makes the user a member. Orgs do not make bots members."""
        return user is not None and not user.is_bot and not user.orgs.isdisjoint(self.orgs)

    def is_individual(self, user_id: str) -> bool:
        """Tell whether the user has an individual reason to be a member, not only an org."""
        return (INDIVIDUAL, user_id) in self._reasons

    def add_individual(self, user_id: str, account: str, at_ms: int) -> None:
        """Record an individual reason, unless there is one."""
        self._reasons.setdefault((INDIVIDUAL, user_id), MembershipReason(INDIVIDUAL, user_id, account, at_ms))

    def add_org(self, org: str, at_ms: int) -> None:
        """Record an org. With the first org, every member so far gets an individual reason."""
        if org in self.orgs:
            return
        if not self.orgs:
            for member in self.members.values():
                self.add_individual(member.user_id, member.account, at_ms)
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
            self._raised = self.room.keys.next_version(at_ms) if self._raised is None else self._raised + 1

    def resume_creation(self) -> None:
        """Continue with a channel that an earlier slice created: its key still is version 0."""
        self._raised = 0

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
        before = {member.id: member for member in self._members_before.values()}
        now = {member.id: member for member in self.members.values()}
        joined = [replace(self._memberships[id_], roles=now[id_].roles) for id_ in now if id_ not in before]
        left = [member for id_, member in before.items() if id_ not in now]
        apps_delta = sum(is_bot(one.account) for one in joined) - sum(is_bot(one.account) for one in left)
        change = RoomChange(
            room=self.room,
            creation=self._creation,
            joined=tuple(joined),
            left=tuple(member.id for member in left),
            demoted=tuple(id_ for id_ in now if id_ in before and now[id_].roles != before[id_].roles),
            reasons=tuple(reason for reason in self._reasons.values() if reason is not None),
            removed_reasons=tuple(key for key in self._reasons_before if self._is_gone(key)),
            reasons_cleared=self._reasons_cleared,
            users_delta=len(joined) - len(left) - apps_delta,
            apps_delta=apps_delta,
            high=self._raised,
            stage=self._raised if self.room.keys.staged is None else None,
        )
        return None if change == RoomChange(self.room) else change

    def _is_gone(self, key: tuple[str, str]) -> bool:
        if self._reasons_cleared and key[0] == INDIVIDUAL:
            return False
        return key not in self._reasons or self._reasons[key] is not None  # it came back: it is inserted again
