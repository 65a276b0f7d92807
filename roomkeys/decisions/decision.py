"""Decisions, as data: what to write, the outcome of each event, and what the batch owes to whom.

`store` writes a decision in one transaction. `worker` sends what it owes, from memory or, after a crash, from the
outbox, through the same functions. The outbox stores `OutboxEntry` and everything in it field by field: the names
of those fields are names in the database and must stay.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from roomkeys.errors import ErrorInfo
from roomkeys.membership import Member, Membership, Room
from roomkeys.subjects import Operation

INDIVIDUAL: Final = "individual"
ORG: Final = "org"
MEMBER_ADDED: Final = "member_added"
MEMBER_LEFT: Final = "member_left"
MEMBER_REMOVED: Final = "member_removed"


@dataclass(frozen=True, slots=True)
class MembershipReason:
    """Why an account is a member: one document of `room_members`. (docs/contract.md, section 5)

    `type` is `INDIVIDUAL` (`id`: a user's `_id`) or `ORG` (an org's id, no `account`). `at_ms` is epoch ms.
    """

    type: str
    id: str
    account: str | None
    at_ms: int


@dataclass(frozen=True, slots=True)
class RoomCreation:
    """What a new room starts with. `at_ms`: epoch ms. `participants`: a dm's (user id, account) pairs, by user id."""

    at_ms: int
    participants: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RoomChange:
    """What a batch writes for one room.

    - `room`: the room as it was before the batch; if the batch creates it, `creation` is set.
    - `joined`, `left`: new memberships, and the accounts whose membership ends.
    - `deleted`, `demoted`: the `_id`s of `subscriptions` documents: those to delete, before `joined` is inserted, and
      those whose roles become a member's.
    - `reasons`: membership reasons to insert, after `removed_orgs` and `removed_rows` have been deleted. These are the
      ids of orgs, and the `_id`s of individual reasons.
    - `reasons_cleared`: all individual reasons of the room are deleted first: its last org leaves, or its first one
      comes.
    - `users_delta`, `apps_delta`: changes of the stored numbers of people and bots.
    - `high`: the room's highest version, if the batch raises it.
    - `first_use`: the room begins with version 0, and its id counts as used from now on.
    - `stage`: the version whose key is to be made, staged and sent, if any.
    """

    room: Room
    creation: RoomCreation | None = None
    joined: tuple[Membership, ...] = ()
    left: tuple[str, ...] = ()
    deleted: tuple[Any, ...] = ()
    demoted: tuple[Any, ...] = ()
    reasons: tuple[MembershipReason, ...] = ()
    removed_orgs: tuple[str, ...] = ()
    removed_rows: tuple[Any, ...] = ()
    reasons_cleared: bool = False
    users_delta: int = 0
    apps_delta: int = 0
    high: int | None = None
    stage: int | None = None
    first_use: bool = False


@dataclass(frozen=True, slots=True)
class MembersNotice:
    """The notice to a channel that its member list has changed. (docs/contract.md, section 3)

    `joined_ms` and `history_from_ms` are epoch milliseconds and belong to `MEMBER_ADDED`; `org` belongs to
    `MEMBER_REMOVED`.
    """

    type: str
    room_name: str = ""
    room_type: str = ""
    org: str | None = None
    joined_ms: int = 0
    history_from_ms: int | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that can never succeed, as it arrived. `truncated`: the body was too long and has been cut."""

    subject: str
    body: bytes = field(repr=False)
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one event. `at_ms` (epoch milliseconds) stamps its notices and its result on every sending.

    The outcome of an event with many members comes in several pieces; the last one is `final` and has the result.
    """

    sequence: int
    operation: Operation
    at_ms: int
    room_id: str | None = None
    requester: str | None = None
    request_id: str | None = None
    site: str = ""
    error: ErrorInfo | None = None
    added: tuple[Membership, ...] = ()
    removed: tuple[Member, ...] = ()
    notice: MembersNotice | None = None
    letter: DeadLetter | None = None
    final: bool = True


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """What a batch owes because of one room, as stored in the outbox.

    `outcomes` are in stream order. `joiners` are owed the key that the room had before the batch. `high` is the
    highest version after it: results wait until that has settled. Events without a room share one entry.
    """

    room_id: str | None
    outcomes: tuple[Outcome, ...]
    joiners: tuple[str, ...] = ()
    high: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision about a batch: it covers the first `taken` of its events, at least one."""

    taken: int
    changes: tuple[RoomChange, ...]
    entries: tuple[OutboxEntry, ...]
