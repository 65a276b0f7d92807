"""Answers: what the key service replies, with exactly the fields of the contract, in its order. (section 6)"""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from roomkeys.errors import ErrorInfo, Rejection
from roomkeys.keys import RoomKey
from roomkeys.membership import RoomView, RoomViews
from roomkeys.messages.key_requests import (
    FIELDS,
    KEY_NOT_AVAILABLE,
    NOT_ROOM_MEMBER,
    Batch,
    Item,
    Sync,
    cursor_after,
)


def key_of(item: Item, states: RoomViews) -> RoomKey:
    """Return the key that is asked for; `Rejection` says why not, membership first."""
    state = states.get(item.room_id)
    if state is None:
        # An item that names no room at all is nobody's secret.
        raise Rejection(NOT_ROOM_MEMBER if item.room_id or item.fault is None else item.fault)
    if item.fault is not None:
        raise Rejection(item.fault)
    key = state.key(item.version)
    if key is None:
        raise Rejection(KEY_NOT_AVAILABLE)
    return key


def get_answer(item: Item, states: RoomViews) -> bytes:
    """Answer `key.get`."""
    return orjson.dumps({"roomId": item.room_id, **_fields(key_of(item, states))})


def batch_answer(batch: Batch, states: RoomViews, now_ms: int) -> bytes:
    """Answer `keys.batch`: each item for itself, in request order."""
    return orjson.dumps(_totals([_result(item, states, batch.fields) for item in batch.items], now_ms))


def sync_answer(page: Sequence[Item], states: RoomViews, now_ms: int, cursor: str | None) -> bytes:
    """Answer `keys.sync`; `cursor`: there are more."""
    document = _totals([_result(item, states, FIELDS) for item in page], now_ms)
    return orjson.dumps(document if cursor is None else {**document, "cursor": cursor})


def sync_page(
    account: str, sync: Sync, rooms: Sequence[str], states: RoomViews, *, most: int, more: bool
) -> tuple[list[Item], str | None]:
    """Return which of the account's next rooms have a key that it lacks, at most so many, and the next cursor.

    `more`: the account has further rooms after these.
    """
    lacking = [Item(room_id) for room_id in rooms if _lacks(sync, room_id, states)]
    page = lacking[:most]
    if len(lacking) > most:
        return page, cursor_after(account, page[-1].room_id)
    return page, cursor_after(account, rooms[-1]) if more else None


def status_answer(room_ids: Iterable[str], states: RoomViews) -> bytes:
    """Answer `status.batch`."""
    return orjson.dumps({room_id: _status(states.get(room_id)) for room_id in room_ids})


def error_document(fault: ErrorInfo) -> dict[str, str]:
    """Return an error as replies spell it."""
    return {"error": fault.text, "code": fault.code, "reason": fault.reason}


def _lacks(sync: Sync, room_id: str, states: RoomViews) -> bool:
    state = states.get(room_id)
    return (
        state is not None
        and state.current is not None
        and (room_id not in sync.have or state.current.version > sync.have[room_id])
    )


def _result(item: Item, states: RoomViews, fields: Sequence[str]) -> dict[str, Any]:
    try:
        known = _fields(key_of(item, states))
    except Rejection as error:
        return {"roomId": item.room_id, "status": "error", **error_document(error.fault)}
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


def _status(state: RoomView | None) -> dict[str, Any]:
    if state is None:
        return {"member": False}
    return {
        "member": True,
        "keyVersion": None if state.current is None else state.current.version,
        "userCount": state.users,
        "appCount": state.apps,
        "rotating": state.rotating,
    }
