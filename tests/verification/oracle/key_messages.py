"""The key messages of a recording, in columns: one million of them take 16 MB."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from tests.verification.oracle.known_keys import KnownKeys

PROBE = "room-worker-probe"
"""The account, which does not exist, to which a worker sends an empty message to find out whether it may send keys."""

_PAYLOAD = re.compile(rb'\{"roomId":".*","version":\d+,"privateKey":"[A-Za-z0-9+/]{43}=","timestamp":\d+\}')


@dataclass(frozen=True, slots=True)
class Payload:
    """One distinct payload, with a digest of its key. `well_formed`: it is spelled as the contract demands."""

    room: str
    version: int
    digest: str
    timestamp: int
    well_formed: bool = True


@dataclass
class KeyMessages:
    """Every key message: its account, its payload and its arrival."""

    payloads: list[Payload] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)
    _payload_indexes: dict[bytes, int] = field(default_factory=dict, repr=False)
    _account_indexes: dict[str, int] = field(default_factory=dict, repr=False)
    _to: array[int] = field(default_factory=lambda: array("i"), repr=False)
    _payload: array[int] = field(default_factory=lambda: array("i"), repr=False)
    _arrival: array[int] = field(default_factory=lambda: array("q"), repr=False)

    def add(self, account: str, raw: bytes, arrival: int, known_keys: KnownKeys) -> None:
        """Add a key message; equal payloads are stored once. An empty message to `PROBE` is not one."""
        if account == PROBE and not raw:
            return
        mark = blake2b(raw, digest_size=16).digest()
        payload = self._payload_indexes.get(mark)
        if payload is None:
            payload = self._payload_indexes[mark] = len(self.payloads)
            self.payloads.append(_read(raw, known_keys))
        to = self._account_indexes.get(account)
        if to is None:
            to = self._account_indexes[account] = len(self.accounts)
            self.accounts.append(account)
        self._to.append(to)
        self._payload.append(payload)
        self._arrival.append(arrival)

    def __len__(self) -> int:
        return len(self._to)

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        """Yield the account, the index of the payload and the arrival of each message, in order of arrival."""
        for to, payload, arrival in zip(self._to, self._payload, self._arrival, strict=True):
            yield self.accounts[to], payload, arrival


def _read(raw: bytes, known_keys: KnownKeys) -> Payload:
    """Return a payload; one that cannot be read belongs to no room."""
    try:
        body = orjson.loads(raw)
        digest = known_keys.add_base64(body["privateKey"])
        well_formed = _PAYLOAD.fullmatch(raw) is not None
        return Payload(body["roomId"], body["version"], digest, body["timestamp"], well_formed)
    except (ValueError, KeyError, TypeError):
        return Payload("", -1, "", 0, well_formed=False)
