"""The snapshot: what the database held of a batch's rooms and accounts before the batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from roomkeys.membership import Member, Room, User


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the database holds of everything a batch of events touches.

    `members` has, by room and account, those of the batch's accounts that are members (all members of a
    room that may need a backfill); `individuals` the user ids that hold an individual row, by room; `orgs`
    each org's users without bots; `apps` the display names of bots; `everybody` the accounts, as they are stored,
    of all members of small rooms that may rotate. `partial`: an org, a backfill or the rows of a room were too
    many to be read at once, and part of them is missing.
    """

    rooms: Mapping[str, Room] = field(default_factory=dict)
    members: Mapping[str, Mapping[str, Member]] = field(default_factory=dict)
    individuals: Mapping[str, frozenset[str]] = field(default_factory=dict)
    users: Mapping[str, User] = field(default_factory=dict)
    orgs: Mapping[str, tuple[User, ...]] = field(default_factory=dict)
    apps: Mapping[str, str] = field(default_factory=dict)
    everybody: Mapping[str, Sequence[object]] = field(default_factory=dict)
    partial: bool = False
