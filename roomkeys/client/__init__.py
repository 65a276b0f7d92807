"""The subscriber's library: holds an account's room keys, and opens and seals messages with them.

    from roomkeys.client import RoomKeys

This is the one folder of `roomkeys` that may import asyncio or nats. docs/client.md shows how to use it.
"""

from roomkeys.client.envelope import EncryptedMessage
from roomkeys.client.errors import (
    ClientClosed,
    DecryptionFailed,
    InvalidEnvelope,
    InvalidRequest,
    KeyMissing,
    KeyNotAvailable,
    KeyStoreFailed,
    KeyTimeout,
    NotRoomMember,
    RoomKeysError,
    ServiceUnavailable,
    TooManyRequests,
)
from roomkeys.client.keyring import HeldKey, KeyStore
from roomkeys.client.room_keys import DEADLINE_SECONDS, RoomKeys
from roomkeys.keys import RoomKey

__all__ = [
    "DEADLINE_SECONDS",
    "ClientClosed",
    "DecryptionFailed",
    "EncryptedMessage",
    "HeldKey",
    "InvalidEnvelope",
    "InvalidRequest",
    "KeyMissing",
    "KeyNotAvailable",
    "KeyStore",
    "KeyStoreFailed",
    "KeyTimeout",
    "NotRoomMember",
    "RoomKey",
    "RoomKeys",
    "RoomKeysError",
    "ServiceUnavailable",
    "TooManyRequests",
]
