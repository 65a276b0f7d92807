"""What a decision says: what to write, what each event came to, and what is owed to whom.

All of it is data. `store` writes it in one transaction; `worker` sends what is owed, from memory or, after a
crash, from the outbox, through the same functions.
"""

from dataclasses import dataclass, field
from typing import Final

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
    """Why somebody is a member: one `room_members` document. `id` is a user's `_id`, or an org's id."""

    type: str
    id: str
    account: str | None
    at_ms: int


@dataclass(frozen=True, slots=True)
class RoomCreation:
    """What a room's document starts with; a dm's participants are (user id, account), sorted by user id."""

    at_ms: int
    participants: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RoomChange:
    """What a batch writes for one room.

    `left` and `demoted` are subscription ids. `removed_reasons` are (type, id) pairs; `reasons_cleared` stands for
    every individual row; both go before `rows` come. `high` is the new highest version where it rose, and
    `stage` the version whose key is to be made and sent.
    """

    room: Room
    creation: RoomCreation | None = None
    joined: tuple[Membership, ...] = ()
    left: tuple[str, ...] = ()
    demoted: tuple[str, ...] = ()
    reasons: tuple[MembershipReason, ...] = ()
    removed_reasons: tuple[tuple[str, str], ...] = ()
    reasons_cleared: bool = False
    users_delta: int = 0
    apps_delta: int = 0
    high: int | None = None
    stage: int | None = None


@dataclass(frozen=True, slots=True)
class MembersNotice:
    """The notice to a channel that its member list changed."""

    type: str
    room_name: str = ""
    room_type: str = ""
    org: str | None = None
    joined_ms: int = 0
    history_from_ms: int | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that can never succeed, as it came, but for a body too long to be kept whole."""

    subject: str
    body: bytes = field(repr=False)
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one event came to.

    `at_ms` is when it was decided: its notices and its result carry that time, however often they are sent.
    An event with many members comes in parts, of which only the last is `final` and brings the result.
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
    """What a batch owes because of one room: an outbox entry.

    The outcomes are in stream order. `joiners` are the accounts that the key which the room had before goes
    to. `high` is the room's highest version after the batch: results go out once that version has settled.
    """

    room_id: str | None
    outcomes: tuple[Outcome, ...]
    joiners: tuple[str, ...] = ()
    high: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """A batch, decided. `taken` is how many of its events this covers: a prefix, at least one."""

    taken: int
    changes: tuple[RoomChange, ...]
    owed: tuple[OutboxEntry, ...]
