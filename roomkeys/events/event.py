"""Events: what a message of the stream asks for, or why it can never succeed.

An event holds only tokens: `decode` has checked everything that can be checked without the database.
"""

from dataclasses import dataclass, field

from roomkeys.errors import ErrorInfo
from roomkeys.membership import Kind
from roomkeys.subjects import Operation


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """A message as the stream holds it: its sequence, broker time (epoch nanoseconds), and body."""

    sequence: int
    time_ns: int
    subject: str
    body: bytes = field(repr=False)
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """What every event has.

    `at_ms` is when its producer accepted it (epoch milliseconds), `accounts` are those it names besides its
    requester's.
    """

    origin: StreamMessage
    operation: Operation
    room_id: str
    requester: str
    at_ms: int
    accounts: tuple[str, ...]

    @property
    def stored_at_ms(self) -> int:
        """Return when the broker took the event (epoch milliseconds)."""
        return self.origin.time_ns // 1_000_000

    @property
    def weight(self) -> int:
        """Return how many accounts the event names, its requester's included."""
        return 1 + len(self.accounts)


@dataclass(frozen=True, slots=True)
class Create(Event):
    """A room, its key and its first members."""

    name: str
    kind: Kind
    orgs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Add(Event):
    """Members to add; `share_history` tells whether they see what was said before."""

    orgs: tuple[str, ...]
    share_history: bool


@dataclass(frozen=True, slots=True)
class Remove(Event):
    """Members to remove: the accounts, or (then `accounts` is empty) those of an org."""

    org: str | None


@dataclass(frozen=True, slots=True)
class Rotate(Event):
    """A new key without a change of members."""


@dataclass(frozen=True, slots=True)
class InvalidEvent:
    """A message that can never succeed, with whatever of it could be read."""

    origin: StreamMessage
    operation: Operation
    room_id: str | None
    requester: str | None
    error: ErrorInfo

    @property
    def weight(self) -> int:
        """Count as one account."""
        return 1


AnyEvent = Create | Add | Remove | Rotate | InvalidEvent
