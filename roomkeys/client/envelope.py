"""Envelopes: messages sealed with a room's key, as they travel between members.

AES-256-GCM with a nonce of 12 random bytes, the tag at the ciphertext's end and no additional data; the nonce
and the ciphertext in standard base64.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Any, Final, TypedDict

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from roomkeys.client.errors import DecryptionFailed, InvalidEnvelope
from roomkeys.keys import RoomKey, is_version

NONCE_BYTES: Final = 12


class EncryptedMessage(TypedDict):
    """A sealed message, ready to become JSON."""

    version: int
    nonce: str
    ciphertext: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """A sealed message, decoded: the version of the key that opens it, and what it opens."""

    version: int
    nonce: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)


def read_envelope(sealed: EncryptedMessage | Mapping[str, Any] | bytes) -> Envelope:
    """Read a sealed message, decoded from JSON or not yet; `InvalidEnvelope` if it is none."""
    document: Any = sealed
    if isinstance(sealed, bytes):
        try:
            document = orjson.loads(sealed)
        except orjson.JSONDecodeError:
            raise InvalidEnvelope("it is no JSON") from None
    if not isinstance(document, Mapping):
        raise InvalidEnvelope("it is no JSON object")
    version = document.get("version")
    if not is_version(version):
        raise InvalidEnvelope("version must be a whole number that is not negative")
    nonce, ciphertext = _bytes(document, "nonce"), _bytes(document, "ciphertext")
    if len(nonce) != NONCE_BYTES:
        raise InvalidEnvelope(f"nonce must be {NONCE_BYTES} bytes")
    return Envelope(version, nonce, ciphertext)


def seal(key: RoomKey, plaintext: bytes) -> EncryptedMessage:
    """Seal a message with a key, under a nonce of its own."""
    nonce = token_bytes(NONCE_BYTES)
    ciphertext = AESGCM(key.secret).encrypt(nonce, plaintext, None)
    return {
        "version": key.version,
        "nonce": b64encode(nonce).decode(),
        "ciphertext": b64encode(ciphertext).decode(),
    }


def unseal(key: RoomKey, envelope: Envelope) -> bytes:
    """Open a message with the key of its version; `DecryptionFailed` if it is not the one that sealed it."""
    try:
        return AESGCM(key.secret).decrypt(envelope.nonce, envelope.ciphertext, None)
    except InvalidTag:
        raise DecryptionFailed(envelope.version) from None


def _bytes(document: Mapping[str, Any], name: str) -> bytes:
    value = document.get(name)
    try:
        if isinstance(value, str):
            return b64decode(value, validate=True)
    except ValueError:
        pass
    raise InvalidEnvelope(f"{name} must be text in standard base64")
