"""What a subscriber is sent and answered, read with mistrust: whatever is amiss in it is left out.

The counterpart of `roomkeys/messages/key_requests.py` and `answers.py`, which read and answer requests.
(contract.md, sections 2 and 6)
"""

from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from roomkeys.client.keyring import HeldKey
from roomkeys.errors import INTERNAL, UNAVAILABLE
from roomkeys.keys import KEY_BYTES, UNUSED, RoomKey, is_version
from roomkeys.messages.key_requests import Item


@dataclass(frozen=True, slots=True)
class Answer:
    """What a batch is answered: a key for each item that has one, a code for each that was refused.

    `code`: the batch as a whole was refused.
    """

    keys: Mapping[Item, HeldKey]
    codes: Mapping[Item, str]
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of `keys.sync`; `cursor`: there are more. `code`: it was refused."""

    keys: Sequence[HeldKey] = ()
    cursor: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class State:
    """How a room stands: the version in use, `UNUSED` where none is named, and whether another is on its way."""

    version: int
    rotating: bool


_REFUSED: Final = "error"


def read_key(data: bytes) -> HeldKey | None:
    """Read a room-key message; None: it is none."""
    document = _document(data)
    return None if document is None else _key(document, in_use=True)


def batch_request(items: Sequence[Item]) -> bytes:
    """Ask for several keys."""
    asked = [
        {"roomId": item.room_id} if item.version is None else {"roomId": item.room_id, "version": item.version}
        for item in items
    ]
    return orjson.dumps({"requests": asked})


def read_batch(items: Sequence[Item], data: bytes) -> Answer:
    """Read the answer to a batch of these items, which comes in their order.

    An item that is answered with a key of another room or version has no answer.
    """
    document = _document(data)
    if document is None or "results" not in document:
        return Answer({}, {}, _code(document))
    keys: dict[Item, HeldKey] = {}
    codes: dict[Item, str] = {}
    for item, result in zip(items, _results(document), strict=False):
        key = _key(result, in_use=item.version is None)
        if key is not None and key.room_id == item.room_id and item.version in {None, key.version}:
            keys[item] = key
        elif result.get("status") == _REFUSED:
            codes[item] = _code(result)
    return Answer(keys, codes)


def sync_request(have: Mapping[str, int], cursor: str | None, most_bytes: int) -> bytes:
    """Ask for the current keys that are newer than these, or not among them, after the cursor.

    What would not fit a message is left out, so that some keys come again.
    """
    told = dict(have)
    while True:
        asked: dict[str, Any] = {"have": told} if cursor is None else {"have": told, "cursor": cursor}
        data = orjson.dumps(asked)
        if len(data) <= most_bytes or not told:
            return data
        told = dict(list(told.items())[: len(told) // 2])


def read_page(data: bytes) -> Page:
    """Read a page of `keys.sync`."""
    document = _document(data)
    if document is None or "results" not in document:
        return Page(code=_code(document))
    keys = [key for result in _results(document) if (key := _key(result, in_use=True)) is not None]
    cursor = document.get("cursor")
    return Page(keys, cursor if isinstance(cursor, str) and cursor else None)


def status_request(room_ids: Sequence[str]) -> bytes:
    """Ask how rooms stand."""
    return orjson.dumps({"roomIds": room_ids})


def read_status(data: bytes) -> Mapping[str, State] | str:
    """Read how the rooms stand that the account is a member of, or why that was refused."""
    document = _document(data)
    if document is None or isinstance(document.get("code"), str):
        return _code(document)
    states = {room_id: state for room_id, state in document.items() if isinstance(state, dict)}
    return {
        room_id: State(
            version if is_version(version := state.get("keyVersion")) else UNUSED, state.get("rotating") is True
        )
        for room_id, state in states.items()
        if state.get("member") is True
    }


def _document(data: bytes) -> dict[str, Any] | None:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def _results(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    results = document["results"]
    return [item if isinstance(item, dict) else {} for item in results] if isinstance(results, list) else []


def _code(document: Mapping[str, Any] | None) -> str:
    """Return why something was refused; what is no refusal either comes of a service that is broken."""
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
