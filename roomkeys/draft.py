"""A room while a batch is being decided: events change the draft one at a time, `change` is what remains.

Somebody who joins and leaves within one batch leaves no trace in the database, and somebody who leaves and
comes back has a new membership; each event's own outcome is kept by the caller.
"""

from collections.abc import Mapping
from dataclasses import replace

from roomkeys.decision import Founding, RoomChange, Row
from roomkeys.people import MEMBER, Kind, Member, Membership, Room, User
from roomkeys.tokens import is_bot

INDIVIDUAL = "individual"
ORG = "org"


class Draft:
    """One room, its members of interest, its rows and its key versions, as the batch leaves them so far."""

    def __init__(self, room: Room | None, members: Mapping[str, Member], individuals: frozenset[str]) -> None:
        self.room = room
        self.members = dict(members)
        self.orgs = set(room.orgs) if room else set[str]()
        self.wants_key: dict[str, None] = {}
        self._founding: Founding | None = None
        self._joined: dict[str, Membership] = {}
        self._left: dict[str, Member] = {}
        self._demoted: dict[str, str] = {}
        self._individuals = set(individuals)
        self._rows: dict[tuple[str, str], Row] = {}
        self._rows_gone: dict[tuple[str, str], None] = {}
        self._rows_cleared = False
        self._high: int | None = None

    def found(self, room: Room, founding: Founding) -> None:
        """Create the room; a channel starts with key version 0."""
        self.room, self._founding = room, founding
        if room.kind == Kind.CHANNEL:
            self._high = 0

    def join(self, membership: Membership) -> None:
        """Make somebody a member."""
        self._joined[membership.account] = membership
        self.members[membership.account] = Member(
            membership.id, membership.user_id, membership.account, membership.roles
        )

    def leave(self, account: str) -> Member:
        """End a membership and return it."""
        member = self.members.pop(account)
        if self._joined.pop(account, None) is None:
            self._left[account] = member
            self._demoted.pop(account, None)
        return member

    def demote(self, account: str) -> None:
        """Make an owner a member."""
        member = self.members[account]
        if member.roles is None or member.roles == MEMBER:
            return
        self.members[account] = replace(member, roles=MEMBER)
        if account in self._joined:
            self._joined[account] = replace(self._joined[account], roles=MEMBER)
        else:
            self._demoted[account] = member.id

    def covers(self, user: User | None) -> bool:
        """Tell whether an org of the room makes the user a member."""
        return user is not None and not user.orgs.isdisjoint(self.orgs)

    def is_individual(self, user_id: str) -> bool:
        """Tell whether the user is a member in their own right, not only through an org."""
        return user_id in self._individuals

    def add_individual(self, user_id: str, account: str, at_ms: int) -> None:
        """Record that somebody is a member in their own right."""
        if user_id not in self._individuals:
            self._individuals.add(user_id)
            self._rows[INDIVIDUAL, user_id] = Row(INDIVIDUAL, user_id, account, at_ms)

    def drop_individual(self, user_id: str) -> None:
        """Forget that somebody is a member in their own right."""
        if user_id in self._individuals:
            self._individuals.discard(user_id)
            self._drop_row(INDIVIDUAL, user_id)

    def add_org(self, org: str, at_ms: int) -> bool:
        """Record an org and tell whether it is new; the first one makes every member an individual."""
        if org in self.orgs:
            return False
        if not self.orgs:
            for member in self.members.values():
                self.add_individual(member.user_id, member.account, at_ms)
        self.orgs.add(org)
        self._rows[ORG, org] = Row(ORG, org, None, at_ms)
        return True

    def drop_org(self, org: str) -> None:
        """Forget an org; without any, the room does not record why somebody is a member."""
        self.orgs.discard(org)
        self._drop_row(ORG, org)
        if not self.orgs:
            self._individuals.clear()
            self._rows_cleared = True
            self._rows = {key: row for key, row in self._rows.items() if row.type == ORG}

    def _drop_row(self, type_: str, id_: str) -> None:
        if self._rows.pop((type_, id_), None) is None:
            self._rows_gone[type_, id_] = None

    def rotate(self, at_ms: int) -> None:
        """Raise the room's version; only the last of a batch gets bytes."""
        if self.room is not None:
            self._high = self.room.keys.next_version(at_ms) if self._high is None else self._high + 1

    def send_current(self, account: str, at_ms: int) -> None:
        """Owe somebody the room's key; a room that has none to give gets one."""
        if self.room is None or self.room.kind != Kind.CHANNEL:
            return
        self.wants_key[account] = None
        if self._high is None and self.room.keys.current is None and self.room.keys.staged is None:
            self.rotate(at_ms)

    @property
    def high(self) -> int | None:
        """Return the room's highest version: raised by this batch, or as recorded before it."""
        return self._high if self._high is not None or self.room is None else self.room.keys.high

    def joiners(self) -> tuple[str, ...]:
        """Return who the current key goes to: those who asked for it and are members in the end."""
        if self.room is None or self.room.keys.current is None:
            return ()
        return tuple(account for account in self.wants_key if account in self.members)

    def change(self) -> RoomChange | None:
        """Return what is to be written; None: nothing."""
        if self.room is None:
            return None
        came, went = self._joined, self._left
        apps_delta = sum(map(is_bot, came)) - sum(map(is_bot, went))
        change = RoomChange(
            room=self.room,
            founding=self._founding,
            joined=tuple(came.values()),
            left=tuple(member.id for member in went.values()),
            demoted=tuple(self._demoted.values()),
            rows=tuple(self._rows.values()),
            rows_gone=tuple(self._rows_gone),
            rows_cleared=self._rows_cleared,
            users_delta=len(came) - len(went) - apps_delta,
            apps_delta=apps_delta,
            high=self._high,
            stage=self._high if self.room.keys.staged is None else None,
        )
        return None if change == RoomChange(self.room) else change
