"""A room while a batch is being decided: events change the draft one at a time, `change` is what remains.

The draft keeps what was before and what is now; what is to be written is the difference. Somebody who joins
and leaves within one batch leaves no trace in the database, and somebody who leaves and comes back has a new
membership.
"""

from collections.abc import Mapping
from dataclasses import replace

from roomkeys.decisions.decision import INDIVIDUAL, ORG, MembershipReason, RoomChange, RoomCreation
from roomkeys.membership import MEMBER_ROLES, OWNER_ROLES, Kind, Member, Membership, Room, User
from roomkeys.tokens import is_bot


class Draft:
    """One room, its members of interest, its rows and its key versions, as the batch leaves them so far."""

    def __init__(self, room: Room | None, members: Mapping[str, Member], individuals: frozenset[str]) -> None:
        self.room = room
        self.members = dict(members)
        self.orgs = set(room.orgs) if room else set[str]()
        self._members_before = members
        self._memberships: dict[str, Membership] = {}
        self._reasons_before = [
            *((ORG, org) for org in sorted(self.orgs)),
            *((INDIVIDUAL, user_id) for user_id in individuals),
        ]
        # None: the reason was recorded before and still holds.
        self._reasons: dict[tuple[str, str], MembershipReason | None] = dict.fromkeys(self._reasons_before)
        self._reasons_cleared = False
        self._creation: RoomCreation | None = None
        self._raised: int | None = None
        self._key_recipients: dict[str, None] = {}

    def create(self, room: Room, creation: RoomCreation) -> None:
        """Create the room; a channel starts with key version 0."""
        self.room, self._creation = room, creation
        if room.kind == Kind.CHANNEL:
            self._raised = 0

    def join(self, membership: Membership) -> None:
        """Make somebody a member."""
        self._memberships[membership.id] = membership
        self.members[membership.account] = Member(
            membership.id, membership.user_id, membership.account, membership.roles
        )

    def leave(self, account: str) -> Member:
        """End a membership and return it; with it goes the reason for it."""
        member = self.members.pop(account)
        self._reasons.pop((INDIVIDUAL, member.user_id), None)
        return member

    def demote(self, account: str) -> None:
        """Make an owner a member, who stays only because an org of the room covers them."""
        member = self.members[account]
        self._reasons.pop((INDIVIDUAL, member.user_id), None)
        if member.roles is not None and OWNER_ROLES[0] in member.roles:
            self.members[account] = replace(member, roles=MEMBER_ROLES)

    def covers(self, user: User | None) -> bool:
        """Tell whether an org of the room makes the user a member; it makes no bot one."""
        return user is not None and not user.is_bot and not user.orgs.isdisjoint(self.orgs)

    def is_individual(self, user_id: str) -> bool:
        """Tell whether the user is a member in their own right, not only through an org."""
        return (INDIVIDUAL, user_id) in self._reasons

    def add_individual(self, user_id: str, account: str, at_ms: int) -> None:
        """Record that somebody is a member in their own right."""
        self._reasons.setdefault((INDIVIDUAL, user_id), MembershipReason(INDIVIDUAL, user_id, account, at_ms))

    def add_org(self, org: str, at_ms: int) -> None:
        """Record an org; the first one makes everybody who is a member already one in their own right."""
        if org in self.orgs:
            return
        if not self.orgs:
            for member in self.members.values():
                self.add_individual(member.user_id, member.account, at_ms)
        self.orgs.add(org)
        self._reasons[ORG, org] = MembershipReason(ORG, org, None, at_ms)

    def drop_org(self, org: str) -> None:
        """Forget an org; without any, the room does not record why somebody is a member."""
        self.orgs.discard(org)
        self._reasons.pop((ORG, org), None)
        if not self.orgs:
            self._reasons.clear()
            self._reasons_cleared = True

    def rotate(self, at_ms: int) -> None:
        """Raise the room's version; only the last of a batch gets bytes. `at_ms` is the broker's time."""
        if self.room is not None:
            self._raised = self.room.keys.next_version(at_ms) if self._raised is None else self._raised + 1

    def resume_creation(self) -> None:
        """Continue with a channel that an earlier slice created: its key still is version 0."""
        self._raised = 0

    def send_key(self, account: str, at_ms: int) -> None:
        """Owe somebody the room's key; a room that has none to give gets one."""
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
        """Return the room's highest version: raised by this batch, or as recorded before it."""
        return self._raised if self._raised is not None or self.room is None else self.room.keys.high

    def joiners(self) -> tuple[str, ...]:
        """Return who is owed the key that the room had before the batch and is a member after it."""
        if self.room is None or not self.room.keys.has_key:
            return ()
        return tuple(account for account in self._key_recipients if account in self.members)

    def change(self) -> RoomChange | None:
        """Return what is to be written; None: nothing."""
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
        """Tell whether a row of before has to be deleted: gone, or gone and come back."""
        if self._reasons_cleared and key[0] == INDIVIDUAL:
            return False
        return key not in self._reasons or self._reasons[key] is not None
