"""The snapshot: what the database holds about a batch's rooms and accounts before the batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from roomkeys.membership import Member, Room, User


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the database holds about everything that a batch of events touches.

    - `rooms`: by room id.
    - `members`: by room id and account, the members among the accounts that the events touch; all members of a
      room that may need a backfill.
    - `individuals`: by room id, the ids of those users who have an individual reason to be a member.
    - `users`: by account, the users that events name or that belong to an org of theirs.
    - `orgs`: by org id, its users without bots.
    - `apps`: by account, the display names of bots.
    - `everybody`: by room id, the accounts of all members, as stored, of small rooms that may rotate.
    - `partial`: an org, a backfill or the reasons of a room were too many to read at once, and some are missing.
    """

    rooms: Mapping[str, Room] = field(default_factory=dict)
    members: Mapping[str, Mapping[str, Member]] = field(default_factory=dict)
    individuals: Mapping[str, frozenset[str]] = field(default_factory=dict)
    users: Mapping[str, User] = field(default_factory=dict)
    orgs: Mapping[str, tuple[User, ...]] = field(default_factory=dict)
    apps: Mapping[str, str] = field(default_factory=dict)
    everybody: Mapping[str, Sequence[object]] = field(default_factory=dict)
    partial: bool = False
