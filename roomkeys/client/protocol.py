"""The client's side of the wire: encodes requests, and decodes replies and key messages.

Nothing that arrives is trusted: malformed messages, results and keys are ignored. No reply (None) means that the
service is unavailable, as does one that is not a JSON object. The key service's side is in
`roomkeys/messages/key_requests.py` and `key_replies.py`. (docs/contract.md, sections 2 and 6)
"""

from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from roomkeys.client.keyring import HeldKey
from roomkeys.client.membership import MembershipNotice
from roomkeys.errors import INTERNAL, UNAVAILABLE
from roomkeys.keys import KEY_BYTES, UNUSED, RoomKey, is_version
from roomkeys.messages.key_requests import Item

_REFUSED: Final = "error"
ADDED: Final = "added"
_ACTIONS: Final = (ADDED, "removed")
_MEMBERS_OF_A_DM: Final = 2


@dataclass(frozen=True, slots=True)
class KeyMessage:
    """A key that the worker sent, at `sent_ms` (epoch milliseconds; 0 if the message does not say)."""

    key: HeldKey
    sent_ms: int


@dataclass(frozen=True, slots=True)
class BatchReply:
    """The reply to `keys.batch`: by item a key, an error code, or neither. `code`: all of it is refused."""

    keys: Mapping[Item, HeldKey]
    codes: Mapping[Item, str]
    code: str | None = None


@dataclass(frozen=True, slots=True)
class SyncReply:
    """One page of `keys.sync`. `cursor` is set if there are more pages, `code` if the request was refused."""

    keys: Sequence[HeldKey] = ()
    cursor: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class RoomStatus:
    """A room's version in use, `UNUSED` if the reply names none, whether the room rotates now, and its members."""

    version: int
    rotating: bool
    members: int = 0

    @property
    def has_no_key(self) -> bool:
        """Tell whether the room has no key, none on its way, and the two members of a dm.

        A room of thousands is without a key, and without one on its way, while it is being created.
        """
        return self.version == UNUSED and not self.rotating and self.members == _MEMBERS_OF_A_DM


def decode_key_message(data: bytes) -> KeyMessage | None:
    """Decode a room-key message; return None if it is not one."""
    document = _document(data) or {}
    key = _key(document, in_use=True)
    return None if key is None else KeyMessage(key, _time(document))


def decode_notice(data: bytes) -> MembershipNotice | None:
    """Decode a `subscription.update`; return None if it is not one."""
    document = _document(data) or {}
    subscription, action = document.get("subscription"), document.get("action")
    room_id = subscription.get("roomId") if isinstance(subscription, dict) else None
    if not isinstance(room_id, str) or action not in _ACTIONS:
        return None
    return MembershipNotice(room_id, _time(document), action == ADDED)


def encode_batch_request(items: Sequence[Item]) -> bytes:
    """Encode a request for several keys."""
    return orjson.dumps({"requests": [_request(item) for item in items]})


def decode_batch_reply(items: Sequence[Item], data: bytes | None) -> BatchReply:
    """Decode the reply to a request for `items`, in their order. Keys of another room or version are ignored."""
    document = _document(data)
    if document is None or "results" not in document:
        return BatchReply({}, {}, _code(document))
    keys: dict[Item, HeldKey] = {}
    codes: dict[Item, str] = {}
    for item, result in zip(items, _results(document), strict=False):
        key = _key(result, in_use=item.version is None)
        if key is not None and key.room_id == item.room_id and item.version in {None, key.version}:
            keys[item] = key
        elif result.get("status") == _REFUSED:
            codes[item] = _code(result)
    return BatchReply(keys, codes)


def encode_sync_request(have: Mapping[str, int], cursor: str | None, max_bytes: int) -> bytes:
    """Encode a request for the current keys that are newer than `have` or not in it, after the cursor.

    Entries of `have` that do not fit into `max_bytes` are left out; the reply then repeats their keys.
    """
    kept = dict(have)
    while True:
        request: dict[str, Any] = {"have": kept} if cursor is None else {"have": kept, "cursor": cursor}
        data = orjson.dumps(request)
        if len(data) <= max_bytes or not kept:
            return data
        kept = dict(list(kept.items())[: len(kept) // 2])


def decode_sync_reply(data: bytes | None) -> SyncReply:
    """Decode a page of `keys.sync`."""
    document = _document(data)
    if document is None or "results" not in document:
        return SyncReply(code=_code(document))
    keys = [key for result in _results(document) if (key := _key(result, in_use=True)) is not None]
    cursor = document.get("cursor")
    return SyncReply(keys, cursor if isinstance(cursor, str) and cursor else None)


def encode_status_request(room_ids: Sequence[str]) -> bytes:
    """Encode a request for the status of rooms."""
    return orjson.dumps({"roomIds": room_ids})


def decode_status_reply(data: bytes | None) -> Mapping[str, RoomStatus] | str:
    """Return the status of the rooms that the account is a member of, or the code if the request was refused."""
    document = _document(data)
    if document is None or isinstance(document.get("code"), str):
        return _code(document)
    rooms = {room_id: room for room_id, room in document.items() if isinstance(room, dict)}
    return {room_id: _status(room) for room_id, room in rooms.items() if room.get("member") is True}


def _request(item: Item) -> dict[str, Any]:
    return {"roomId": item.room_id, **({} if item.version is None else {"version": item.version})}


def _status(room: Mapping[str, Any]) -> RoomStatus:
    version = room.get("keyVersion")
    counts = (room.get(name) for name in ("userCount", "appCount"))
    members = sum(count for count in counts if isinstance(count, int))
    return RoomStatus(version if is_version(version) else UNUSED, room.get("rotating") is True, members)


def _document(data: bytes | None) -> dict[str, Any] | None:
    try:
        document = orjson.loads(data or b"")
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def _time(document: Mapping[str, Any]) -> int:
    value = document.get("timestamp")
    return value if isinstance(value, int) else 0


def _results(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    results = document["results"]
    return [item if isinstance(item, dict) else {} for item in results] if isinstance(results, list) else []


def _code(document: Mapping[str, Any] | None) -> str:
    """Return the code of an error; a reply that has none comes from a faulty service."""
    code = None if document is None else document.get("code")
    return code if isinstance(code, str) else UNAVAILABLE if document is None else INTERNAL


def _key(document: Mapping[str, Any], *, in_use: bool) -> HeldKey | None:
    room_id, version, secret = (document.get(name) for name in ("roomId", "version", "privateKey"))
    if not isinstance(room_id, str) or not isinstance(secret, str) or not is_version(version):
        return None
    try:
        raw = b64decode(secret, validate=True)
    except ValueError:
        return None
    return HeldKey(room_id, RoomKey(version, raw), in_use) if room_id and len(raw) == KEY_BYTES else None
