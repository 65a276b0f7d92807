"""A recording: everything that was observed of a run, as data. A test can also write one by hand."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from enum import StrEnum

from tests.unit.decisions.model import ModelRoom
from tests.verification.oracle.key_messages import KeyMessages
from tests.verification.oracle.known_keys import KnownKeys

NEVER = 2**62
"""An arrival, or a time, that has not come."""


class MessageKind(StrEnum):
    """What a message is, by its subject."""

    KEY = "key"
    ACCOUNT_NOTICE = "subscription.update"
    ROOM_NOTICE = "room notice"
    RESULT = "result"
    OTHER = "other"


EVERY_KIND = frozenset(MessageKind)


class ChangeKind(StrEnum):
    """What a change of the database is about."""

    JOINED = "joined"
    LEFT = "left"
    CURRENT = "current version"
    HIGH = "highest version"
    STAGED = "staged version"


@dataclass(frozen=True, slots=True)
class Event:
    """A message of the events stream; `at_ms` is the time of the broker (epoch milliseconds)."""

    sequence: int
    at_ms: int
    subject: str
    body: bytes = field(repr=False)
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message of the dead-letter stream."""

    headers: dict[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Message:
    """A notice, a result or another message that is no key.

    `to` is the account or the room in its subject, `arrival` its index among all messages.
    """

    kind: MessageKind
    to: str
    body: bytes = field(repr=False)
    request_id: str | None
    arrival: int


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the database, in the order of the oplog; the changes of one transaction share a `cluster_time`.

    `version` is the new value of `CURRENT`, `HIGH` and `STAGED`; None: the field was removed.
    """

    kind: ChangeKind
    room: str
    cluster_time: int
    at_ms: int
    account: str = ""
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """A time (epoch milliseconds) in which a listener may have missed messages of the broker."""

    listener: int
    since_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class RoomDocument:
    """What the document of a room holds in the end."""

    kind: str
    users: int
    apps: int
    version: int | None
    high: int | None
    staged: int | None


@dataclass
class Recording:
    """A run.

    Before it: `users` has the orgs of each account, `rooms_before` what the database held, and `applied_before`
    the sequence of the last event that was applied. `kinds` are the kinds of messages that were recorded, and
    `denied` the accounts to which the broker does not let the worker send keys.

    During it: `listeners` and `times` have the listener and the time of each arrival. `arrived_by` has, for each
    change, how many messages had arrived when everything that the broker had taken before the change was
    observed had arrived. `stored_keys` are the (room, version, digest) that the database ever held.

    After it: `rooms`, `members` (with their role), `individuals`, `orgs` and the number of entries in the
    `outbox`.
    """

    site: str
    users: dict[str, frozenset[str]]
    started_ms: int = 0
    applied_before: int = 0
    kinds: frozenset[MessageKind] = EVERY_KIND
    denied: frozenset[str] = frozenset()
    rooms_before: dict[str, ModelRoom] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    key_messages: KeyMessages = field(default_factory=KeyMessages)
    messages: list[Message] = field(default_factory=list)
    listeners: array[int] = field(default_factory=lambda: array("b"))
    times: array[int] = field(default_factory=lambda: array("q"))
    gaps: list[Gap] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    arrived_by: array[int] = field(default_factory=lambda: array("q"))
    stored_keys: set[tuple[str, int, str]] = field(default_factory=set)
    known_keys: KnownKeys = field(default_factory=KnownKeys, repr=False)
    rooms: dict[str, RoomDocument] = field(default_factory=dict)
    members: dict[str, dict[str, str | None]] = field(default_factory=dict)
    individuals: dict[str, list[str]] = field(default_factory=dict)
    orgs: dict[str, list[str]] = field(default_factory=dict)
    outbox: int = 0

    def arrive(self, listener: int, at_ms: int) -> int:
        """Add an arrival at a listener; return its index."""
        self.listeners.append(listener)
        self.times.append(at_ms)
        return len(self.listeners) - 1
