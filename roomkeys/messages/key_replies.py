"""What the key service replies, with exactly the fields of docs/contract.md, section 6, in its order."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from roomkeys.errors import ErrorInfo, Rejection
from roomkeys.keys import RoomKey
from roomkeys.membership import RoomView, RoomViews
from roomkeys.messages.key_requests import FIELDS, KEY_NOT_AVAILABLE, NOT_ROOM_MEMBER, Batch, Item, Sync, cursor_after


def key_of(item: Item, views: RoomViews) -> RoomKey:
    """Return the key, or raise `Rejection`: that the account is not a member comes before every other error."""
    view = views.get(item.room_id)
    if view is None:
        # An item without a room id reveals nothing about any room, so its error may be shown.
        raise Rejection(NOT_ROOM_MEMBER if item.room_id or item.error is None else item.error)
    if item.error is not None:
        raise Rejection(item.error)
    key = view.key(item.version)
    if key is None:
        raise Rejection(KEY_NOT_AVAILABLE)
    return key


def encode_get_reply(item: Item, views: RoomViews) -> bytes:
    """Return the reply to `key.get`, or raise `Rejection` as `key_of` does."""
    return orjson.dumps({"roomId": item.room_id, **_fields(key_of(item, views))})


def encode_batch_reply(batch: Batch, views: RoomViews, now_ms: int) -> bytes:
    """Return the reply to `keys.batch`: one result per item, in request order. `now_ms` is epoch milliseconds."""
    return orjson.dumps(_totals([_result(item, views, batch.fields) for item in batch.items], now_ms))


def encode_sync_reply(page: Sequence[Item], views: RoomViews, now_ms: int, cursor: str | None) -> bytes:
    """Return the reply to `keys.sync`; with a `cursor` if there are more keys."""
    document = _totals([_result(item, views, FIELDS) for item in page], now_ms)
    return orjson.dumps(document if cursor is None else {**document, "cursor": cursor})


def sync_page(
    account: str, sync: Sync, rooms: Sequence[str], views: RoomViews, *, most: int, more: bool
) -> tuple[list[Item], str | None]:
    """Return up to `most` items that the client lacks, and the next cursor. `more`: rooms follow after `rooms`."""
    lacking = [Item(room_id) for room_id in rooms if _lacks(sync, room_id, views)]
    page = lacking[:most]
    if len(lacking) > most:
        return page, cursor_after(account, page[-1].room_id)
    return page, cursor_after(account, rooms[-1]) if more else None


def encode_status_reply(room_ids: Iterable[str], views: RoomViews) -> bytes:
    """Return the reply to `status.batch`."""
    return orjson.dumps({room_id: _status(views.get(room_id)) for room_id in room_ids})


def error_document(info: ErrorInfo) -> dict[str, str]:
    """Return the fields of an error in a reply."""
    return {"error": info.text, "code": info.code, "reason": info.reason}


def _lacks(sync: Sync, room_id: str, views: RoomViews) -> bool:
    key = views[room_id].current if room_id in views else None
    return key is not None and (room_id not in sync.have or key.version > sync.have[room_id])


def _result(item: Item, views: RoomViews, fields: Sequence[str]) -> dict[str, Any]:
    try:
        known = _fields(key_of(item, views))
    except Rejection as error:
        return {"roomId": item.room_id, "status": "error", **error_document(error.info)}
    return {"roomId": item.room_id, "status": "ok", **{field: known[field] for field in fields}}


def _fields(key: RoomKey) -> dict[str, Any]:
    return {"version": key.version, "privateKey": b64encode(key.secret).decode()}


def _totals(results: list[dict[str, Any]], now_ms: int) -> dict[str, Any]:
    succeeded = sum(result["status"] == "ok" for result in results)
    return {
        "results": results,
        "totalRequested": len(results),
        "totalSucceeded": succeeded,
        "totalFailed": len(results) - succeeded,
        "timestamp": now_ms,
    }


def _status(view: RoomView | None) -> dict[str, Any]:
    if view is None:
        return {"member": False}
    return {
        "member": True,
        "keyVersion": None if view.current is None else view.current.version,
        "userCount": view.users,
        "appCount": view.apps,
        "rotating": view.rotating,
    }
