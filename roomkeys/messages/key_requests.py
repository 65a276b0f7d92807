"""What clients ask the key service for, and why it may refuse. (docs/contract.md, section 6)"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from zlib import crc32

import orjson

from roomkeys import errors
from roomkeys.errors import BAD_REQUEST, UNAVAILABLE, ErrorInfo, Rejection
from roomkeys.keys import is_version
from roomkeys.tokens import MAX_TOKEN_BYTES

MAX_ITEMS: Final = 100
"""The most rooms in one batch."""

FIELDS: Final = ("version", "privateKey")
"""The fields of a key that a batch may ask for, in the order of the reply."""

NOT_ROOM_MEMBER: Final = ErrorInfo(errors.FORBIDDEN, "not_room_member", "not a member of this room")
KEY_NOT_AVAILABLE: Final = ErrorInfo(
    errors.NOT_FOUND, "key_not_available", "this version of the room's key is not available"
)
INVALID_CURSOR: Final = ErrorInfo(BAD_REQUEST, "invalid_cursor", "the cursor was not issued to this account")
INVALID_ACCOUNT: Final = ErrorInfo(BAD_REQUEST, "invalid_account", "the account is not a token")
RATE_LIMITED: Final = ErrorInfo(errors.TOO_MANY_REQUESTS, "rate_limited", "the account exceeds its rate limit")
DATABASE_UNAVAILABLE: Final = ErrorInfo(UNAVAILABLE, "database_unavailable", "the database does not answer; try again")
OVERLOADED: Final = ErrorInfo(UNAVAILABLE, "overloaded", "too many requests are waiting; try again")
REQUEST_FAILED: Final = ErrorInfo(errors.INTERNAL, "internal", "the request could not be answered")


@dataclass(frozen=True, slots=True)
class Item:
    """A room whose key is asked for: a version, or the key in use. Only members may be answered with its `error`."""

    room_id: str
    version: int | None = None
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Several keys that are asked for, in order, and which `fields` of each."""

    items: tuple[Item, ...]
    fields: tuple[str, ...] = FIELDS


@dataclass(frozen=True, slots=True)
class Sync:
    """The versions that a client has, by room id, and the room id after which the page begins."""

    have: Mapping[str, int]
    after: str = ""


def decode_get_request(room_id: str, body: bytes) -> Item:
    """Decode a `key.get` request. `room_id` comes from the subject, and the body may be empty."""
    try:
        return _item(room_id, _object(body) if body else {})
    except Rejection as error:
        return Item(room_id, error=error.info)


def decode_batch_request(body: bytes) -> Batch:
    """Decode a `keys.batch` request. Raise `Rejection` if its shape is wrong; a wrong item only gets an `error`."""
    document = _object(body)
    items = tuple(_batch_item(value) for value in _items(document, "requests"))
    fields = document.get("fields") or []
    if not isinstance(fields, list) or not all(field in FIELDS for field in fields):
        raise _invalid(f"fields must be among {' and '.join(FIELDS)}")
    return Batch(items, tuple(field for field in FIELDS if not fields or field in fields))


def decode_sync_request(account: str, body: bytes) -> Sync:
    """Decode a `keys.sync` request of this account. Raise `Rejection` if its shape or its cursor is wrong."""
    document = _object(body) if body else {}
    have = {} if document.get("have") is None else document["have"]
    if not isinstance(have, dict) or not all(is_version(version) for version in have.values()):
        raise _invalid("have must be an object of versions by room")
    cursor = document.get("cursor")
    return Sync(have, "" if cursor is None else _room_before(account, cursor))


def decode_status_request(body: bytes) -> tuple[str, ...]:
    """Decode a `status.batch` request: each room id once, in order. Raise `Rejection` if its shape is wrong."""
    room_ids = _items(_object(body), "roomIds")
    if not all(isinstance(room_id, str) for room_id in room_ids):
        raise _invalid("roomIds must be strings")
    return tuple(dict.fromkeys(room_ids))


def cursor_after(account: str, room_id: str) -> str:
    """Return the opaque cursor of the page that begins after a room; it is valid for this account only."""
    return urlsafe_b64encode(_checksum(account, room_id) + room_id.encode()).decode()


def _room_before(account: str, cursor: object) -> str:
    try:
        raw = urlsafe_b64decode(cursor) if isinstance(cursor, str) else b""
        room_id = raw[4:].decode()
    except ValueError:
        raw, room_id = b"", ""
    if not room_id or raw[:4] != _checksum(account, room_id):
        raise Rejection(INVALID_CURSOR)
    return room_id


def _checksum(account: str, room_id: str) -> bytes:
    return crc32(f"{account}.{room_id}".encode()).to_bytes(4, "big")


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise _invalid("the body is not a JSON object")
    return document


def _items(document: dict[str, Any], field: str) -> list[Any]:
    items = document.get(field)
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_ITEMS:
        raise _invalid(f"{field} must be an array of 1 to {MAX_ITEMS}")
    return items


def _batch_item(value: object) -> Item:
    room_id = value.get("roomId") if isinstance(value, dict) else None
    # The id need not be a token: other systems may have made the room.
    if not isinstance(value, dict) or not isinstance(room_id, str) or not 0 < len(room_id) <= MAX_TOKEN_BYTES:
        return Item("", error=_invalid("roomId is missing or not a text").info)
    return _item(room_id, value)


def _item(room_id: str, document: dict[str, Any]) -> Item:
    version = document.get("version")
    if version is None or is_version(version):
        return Item(room_id, version)
    return Item(room_id, error=_invalid("version must be a whole number that is not negative").info)


def _invalid(text: str) -> Rejection:
    return Rejection(ErrorInfo(BAD_REQUEST, "invalid_request", text))
