"""Envelopes: messages sealed with a room's key, as members exchange them.

The cipher is AES-256-GCM with a nonce of 12 random bytes and no additional data. The ciphertext ends with the tag.
Nonce and ciphertext are in standard base64.
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


SealedMessage = EncryptedMessage | Mapping[str, Any] | bytes
"""A sealed message as it arrives: a mapping, or JSON bytes."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A decoded sealed message. `version` names the key that opens it."""

    version: int
    nonce: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)


def read_envelope(sealed: SealedMessage) -> Envelope:
    """Decode a sealed message. Raises `InvalidEnvelope`."""
    document: Any = sealed
    if isinstance(sealed, bytes):
        try:
            document = orjson.loads(sealed)
        except orjson.JSONDecodeError:
            raise InvalidEnvelope("not JSON") from None
    if not isinstance(document, Mapping):
        raise InvalidEnvelope("not a JSON object")
    version = document.get("version")
    if not is_version(version):
        raise InvalidEnvelope("version must be a non-negative integer")
    nonce, ciphertext = _bytes(document, "nonce"), _bytes(document, "ciphertext")
    if len(nonce) != NONCE_BYTES:
        raise InvalidEnvelope(f"nonce must be {NONCE_BYTES} bytes")
    return Envelope(version, nonce, ciphertext)


def seal(key: RoomKey, plaintext: bytes) -> EncryptedMessage:
    """Seal a message with a key and a fresh random nonce."""
    nonce = token_bytes(NONCE_BYTES)
    sealed = b64encode(AESGCM(key.secret).encrypt(nonce, plaintext, None)).decode()
    return {"version": key.version, "nonce": b64encode(nonce).decode(), "ciphertext": sealed}


def unseal(key: RoomKey, envelope: Envelope) -> bytes:
    """Open a message with the key of its version. Raises `DecryptionFailed` if the key did not seal it."""
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
    raise InvalidEnvelope(f"{name} must be a string in standard base64")
