"""The subscriber's library: holds an account's room keys, and opens and seals messages with them.

    from roomkeys.client import RoomKeys

This is the one folder of `roomkeys` that may import asyncio or nats. docs/client.md shows how to use it.
"""

from roomkeys.client.envelope import EncryptedMessage
from roomkeys.client.errors import (
    Ended,
    KeyMissing,
    KeyNotAvailable,
    NotAnEnvelope,
    NotAsked,
    NotInTime,
    NotOpened,
    NotRoomMember,
    NotStored,
    RoomKeysError,
    ServiceAway,
    TooManyRequests,
)
from roomkeys.client.keyring import HeldKey, KeyStore
from roomkeys.client.room_keys import DEADLINE_SECONDS, RoomKeys
from roomkeys.keys import RoomKey

__all__ = [
    "DEADLINE_SECONDS",
    "EncryptedMessage",
    "Ended",
    "HeldKey",
    "KeyMissing",
    "KeyNotAvailable",
    "KeyStore",
    "NotAnEnvelope",
    "NotAsked",
    "NotInTime",
    "NotOpened",
    "NotRoomMember",
    "NotStored",
    "RoomKey",
    "RoomKeys",
    "RoomKeysError",
    "ServiceAway",
    "TooManyRequests",
]
