"""Events: what a message of the stream asks for, or why it can never succeed.

Every account and room id of an event is a token, except those of an `InvalidEvent`'s message.
"""

from dataclasses import dataclass, field

from roomkeys.errors import ErrorInfo
from roomkeys.membership import Kind
from roomkeys.subjects import Operation


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """A message as the stream has it, stored at `time_ns` (epoch ns). These names are names in the outbox."""

    sequence: int
    time_ns: int
    subject: str
    body: bytes = field(repr=False)
    request_id: str | None = None

    @property
    def time_ms(self) -> int:
        """Return when the broker stored the message (epoch milliseconds)."""
        return self.time_ns // 1_000_000


@dataclass(frozen=True, slots=True)
class Event:
    """What every event has. `at_ms`: when the producer accepted it (epoch ms). `accounts`: without the requester's."""

    origin: StreamMessage
    operation: Operation
    room_id: str
    requester: str
    at_ms: int
    accounts: tuple[str, ...]

    @property
    def weight(self) -> int:
        """Return how many accounts the event names, with the requester's."""
        return 1 + len(self.accounts)


@dataclass(frozen=True, slots=True)
class Create(Event):
    """A room, its key and its first members."""

    name: str
    kind: Kind
    orgs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Add(Event):
    """Members to add. `share_history`: they see the messages from before they joined."""

    orgs: tuple[str, ...]
    share_history: bool


@dataclass(frozen=True, slots=True)
class Remove(Event):
    """Members to remove: the accounts or, if `org` is set, the users of an org (`accounts` is empty then)."""

    org: str | None


@dataclass(frozen=True, slots=True)
class Rotate(Event):
    """A rotation without a change of members."""


@dataclass(frozen=True, slots=True)
class InvalidEvent:
    """A message that can never succeed. `room_id` and `requester` are None where they are not tokens."""

    origin: StreamMessage
    operation: Operation
    room_id: str | None
    requester: str | None
    error: ErrorInfo

    @property
    def weight(self) -> int:
        """Return 1: it is counted as one account."""
        return 1


AnyEvent = Create | Add | Remove | Rotate | InvalidEvent
