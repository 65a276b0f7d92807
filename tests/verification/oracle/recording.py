"""A recording: everything that was seen of a run, as data. A test may also make one by hand."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b

import orjson

from tests.unit.decisions.model import ModelRoom
from tests.verification.oracle.sealed import Sealed

NEVER = 2**62
"""An arrival that has not come."""

_PAYLOAD = re.compile(rb'\{"roomId":".*","version":\d+,"privateKey":"[A-Za-z0-9+/]{43}=","timestamp":\d+\}')


class Kind(StrEnum):
    """What a message that went out is, as its subject says."""

    KEY = "key"
    UPDATE = "subscription.update"
    ROOM = "room notice"
    RESULT = "result"
    OTHER = "other"


EVERYTHING = frozenset(Kind)


class What(StrEnum):
    """What a change of the database is about."""

    JOINED = "joined"
    LEFT = "left"
    IN_USE = "in use"
    HIGH = "high"
    STAGED = "staged"


@dataclass(frozen=True, slots=True)
class Event:
    """A message of the stream of events; `at_ms` is the broker's time (epoch milliseconds)."""

    sequence: int
    at_ms: int
    subject: str
    body: bytes = field(repr=False)
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    """A message of the stream of dead letters."""

    headers: dict[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Heard:
    """A notice or a result; `to` is the account or room of its subject, `arrival` its place among all messages."""

    kind: Kind
    to: str
    body: bytes = field(repr=False)
    request_id: str | None
    arrival: int


@dataclass(frozen=True, slots=True)
class Payload:
    """One distinct key payload; the key is a digest. `shape`: it is spelled as the contract spells it."""

    room: str
    version: int
    digest: str
    timestamp: int
    shape: bool = True


@dataclass(frozen=True, slots=True)
class Change:
    """A change in the order of the oplog; those of one transaction have the same `moment`.

    A version is what `IN_USE`, `HIGH` and `STAGED` came to; None: the field went.
    """

    what: What
    room: str
    moment: int
    at_ms: int
    account: str = ""
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """A time (epoch milliseconds) in which an ear may have missed what the broker sent."""

    ear: int
    since_ms: int
    until_ms: int


@dataclass
class Keys:
    """Every key message in columns: who, which payload, when. A million of them take 16 MB."""

    payloads: list[Payload] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)
    _payload_ids: dict[bytes, int] = field(default_factory=dict, repr=False)
    _account_ids: dict[str, int] = field(default_factory=dict, repr=False)
    _to: array[int] = field(default_factory=lambda: array("i"), repr=False)
    _what: array[int] = field(default_factory=lambda: array("i"), repr=False)
    _arrival: array[int] = field(default_factory=lambda: array("q"), repr=False)

    def add(self, account: str, raw: bytes, arrival: int, secrets: Sealed) -> None:
        """Note a key message; of its payload only a digest is kept."""
        mark = blake2b(raw, digest_size=16).digest()
        payload_id = self._payload_ids.get(mark)
        if payload_id is None:
            payload_id = self._payload_ids[mark] = len(self.payloads)
            self.payloads.append(read_payload(raw, secrets))
        account_id = self._account_ids.get(account)
        if account_id is None:
            account_id = self._account_ids[account] = len(self.accounts)
            self.accounts.append(account)
        self._to.append(account_id)
        self._what.append(payload_id)
        self._arrival.append(arrival)

    def __len__(self) -> int:
        return len(self._to)

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        """Yield the account, the payload's number and the arrival of each message, as they came."""
        for to, what, arrival in zip(self._to, self._what, self._arrival, strict=True):
            yield self.accounts[to], what, arrival


def read_payload(raw: bytes, secrets: Sealed) -> Payload:
    """Read a key payload; what cannot be read is nobody's key."""
    try:
        body = orjson.loads(raw)
        digest = secrets.add_base64(body["privateKey"])
        shape = _PAYLOAD.fullmatch(raw) is not None
        return Payload(body["roomId"], body["version"], digest, body["timestamp"], shape)
    except (ValueError, KeyError, TypeError):
        return Payload("", -1, "", 0, shape=False)


@dataclass(frozen=True, slots=True)
class RoomDocument:
    """What a room's document says in the end."""

    kind: str
    users: int
    apps: int
    version: int | None
    high: int | None
    staged: int | None


@dataclass
class Recording:
    """A run. `before` is what the database held when it began, `since` the last event applied by then.

    `heard_by` has, for each change, how many messages had arrived when everything that the broker had taken
    before the change was seen had arrived. `kinds` are the messages that were recorded at all, `denied` the
    accounts to which the broker lets the worker send no keys.
    """

    site: str
    people: dict[str, frozenset[str]]
    began_ms: int = 0
    since: int = 0
    kinds: frozenset[Kind] = EVERYTHING
    denied: frozenset[str] = frozenset()
    before: dict[str, ModelRoom] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    keys: Keys = field(default_factory=Keys)
    heard: list[Heard] = field(default_factory=list)
    ears: array[int] = field(default_factory=lambda: array("b"))
    times: array[int] = field(default_factory=lambda: array("q"))
    gaps: list[Gap] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    heard_by: array[int] = field(default_factory=lambda: array("q"))
    stored: set[tuple[str, int, str]] = field(default_factory=set)
    secrets: Sealed = field(default_factory=Sealed, repr=False)
    rooms: dict[str, RoomDocument] = field(default_factory=dict)
    members: dict[str, dict[str, str | None]] = field(default_factory=dict)
    individuals: dict[str, list[str]] = field(default_factory=dict)
    orgs: dict[str, list[str]] = field(default_factory=dict)
    outbox: int = 0

    def arrive(self, ear: int, at_ms: int) -> int:
        """Note that a message came to an ear; return its place among all messages."""
        self.ears.append(ear)
        self.times.append(at_ms)
        return len(self.ears) - 1
