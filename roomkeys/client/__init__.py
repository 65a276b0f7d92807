"""The client library: keeps an account's room keys up to date, and opens and seals messages with them.

    from roomkeys.client import RoomKeys

docs/client.md is the user's guide. Only this folder of `roomkeys` may import asyncio or nats.
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
    RoomHasNoKey,
    RoomKeysError,
    ServiceUnavailable,
    TooManyRequests,
)
from roomkeys.client.keyring import HeldKey, KeyStore
from roomkeys.client.room_keys import DEADLINE_SECONDS, ClientLimits, RoomKeys
from roomkeys.keys import RoomKey

__all__ = [
    "DEADLINE_SECONDS",
    "ClientClosed",
    "ClientLimits",
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
    "RoomHasNoKey",
    "RoomKey",
    "RoomKeys",
    "RoomKeysError",
    "ServiceUnavailable",
    "TooManyRequests",
]
