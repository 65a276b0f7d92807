"""The snapshot: what the database holds about a batch's rooms and accounts before the batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from roomkeys.keys import UNUSED
from roomkeys.membership import Member, Room, User


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the database holds about everything that a batch of events touches.

    - `rooms`: by room id.
    - `members`: by room id and account, the members among the accounts that the events touch; all members of a
      room that may need a backfill.
    - `copies`: by room id and account, the `_id`s of further documents that stand for the same membership, or that
      have its place in the unique index; very few accounts have any.
    - `individuals`: by room id and account, the `_id`s of the individual reasons for a membership.
    - `leftover_orgs`: by the id of a room that does not exist, the orgs that `room_members` still has for it.
    - `users`: by account, the users that events name or that belong to an org of theirs.
    - `orgs`: by org id, its users without bots.
    - `apps`: by account, the display names of bots.
    - `everybody`: by room id, the accounts of all members, as stored, of small rooms that may rotate.
    - `clashes`: the ids of rooms that cannot be created, because the collection takes them for the id of another room.
    - `used_ids`: those ids of rooms to create that a room has had before, even if it is gone.
    - `highest`: the highest version that any room has used, as far as it is needed to continue above it.
    - `partial`: an org, a backfill or the reasons of a room were too many to read at once, and some are missing.
    """

    rooms: Mapping[str, Room] = field(default_factory=dict)
    members: Mapping[str, Mapping[str, Member]] = field(default_factory=dict)
    individuals: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    users: Mapping[str, User] = field(default_factory=dict)
    orgs: Mapping[str, tuple[User, ...]] = field(default_factory=dict)
    apps: Mapping[str, str] = field(default_factory=dict)
    everybody: Mapping[str, Sequence[object]] = field(default_factory=dict)
    copies: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    leftover_orgs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    clashes: frozenset[str] = frozenset()
    used_ids: frozenset[str] = frozenset()
    highest: int = UNUSED
    partial: bool = False
