"""Replies have exactly the fields of the contract, in order, and say nothing to accounts that are not members."""

from base64 import b64encode
from typing import Any

import orjson
import pytest

from roomkeys.errors import ErrorInfo, Rejection
from roomkeys.keys import RoomKey
from roomkeys.membership import RoomView
from roomkeys.messages import key_replies, key_requests
from roomkeys.messages.key_requests import Batch, Item, Sync

OLD, NOW = RoomKey(3, b"o" * 32), RoomKey(4, b"n" * 32)
ROOM = RoomView(NOW, (OLD,), users=5, apps=1, rotating=True)
WRONG = ErrorInfo("bad_request", "invalid_request", "wrong")
AT = 1_747_000_000_000


def text(key: RoomKey) -> str:
    return b64encode(key.secret).decode()


def test_key_reply_has_exactly_three_fields_in_order() -> None:
    in_use = key_replies.encode_get_reply(Item("r1"), {"r1": ROOM})
    assert in_use == f'{{"roomId":"r1","version":4,"privateKey":"{text(NOW)}"}}'.encode()
    replaced = key_replies.encode_get_reply(Item("r1", 3), {"r1": ROOM})
    assert replaced == f'{{"roomId":"r1","version":3,"privateKey":"{text(OLD)}"}}'.encode()


@pytest.mark.parametrize(
    ("item", "states", "reason"),
    [
        (Item("r1"), {}, "not_room_member"),
        (Item("r1", error=WRONG), {}, "not_room_member"),
        (Item("r1", error=WRONG), {"r1": ROOM}, "invalid_request"),
        (Item("", error=WRONG), {}, "invalid_request"),
        (Item("r1", 5), {"r1": ROOM}, "key_not_available"),
        (Item("r1"), {"r1": RoomView()}, "key_not_available"),
        (Item("r1", 4), {"r1": RoomView(rotating=True)}, "key_not_available"),
    ],
)
def test_error_names_membership_first_then_shape_then_key(item: Item, states: Any, reason: str) -> None:
    with pytest.raises(Rejection) as caught:
        key_replies.encode_get_reply(item, states)
    assert caught.value.info.reason == reason


def test_batch_reply_has_each_item_in_order_and_totals() -> None:
    items = (Item("r1"), Item("r2"), Item("r1", 3), Item("r1", error=WRONG))
    assert (
        key_replies.encode_batch_reply(Batch(items), {"r1": ROOM}, AT)
        == (
            f'{{"results":[{{"roomId":"r1","status":"ok","version":4,"privateKey":"{text(NOW)}"}},'
            '{"roomId":"r2","status":"error","error":"not a member of this room","code":"forbidden",'
            '"reason":"not_room_member"},'
            f'{{"roomId":"r1","status":"ok","version":3,"privateKey":"{text(OLD)}"}},'
            '{"roomId":"r1","status":"error","error":"wrong","code":"bad_request","reason":"invalid_request"}],'
            '"totalRequested":4,"totalSucceeded":2,"totalFailed":2,"timestamp":1747000000000}'
        ).encode()
    )


@pytest.mark.parametrize(
    ("fields", "keys"),
    [(("version",), ["roomId", "status", "version"]), (("privateKey",), ["roomId", "status", "privateKey"])],
)
def test_batch_reply_has_only_the_requested_fields(fields: tuple[str, ...], keys: list[str]) -> None:
    answer = orjson.loads(key_replies.encode_batch_reply(Batch((Item("r1"),), fields), {"r1": ROOM}, AT))
    assert list(answer["results"][0]) == keys


def test_status_has_five_fields_for_members_and_one_for_others() -> None:
    answer = key_replies.encode_status_reply(["r2", "r1", "dm"], {"r1": ROOM, "dm": RoomView(users=2)})
    assert answer == (
        b'{"r2":{"member":false},'
        b'"r1":{"member":true,"keyVersion":4,"userCount":5,"appCount":1,"rotating":true},'
        b'"dm":{"member":true,"keyVersion":null,"userCount":2,"appCount":0,"rotating":false}}'
    )


def page(have: dict[str, int], rooms: list[str], *, most: int = 10, more: bool = False) -> tuple[list[str], Any]:
    """Return the room ids of a page, and the room id after which the next page begins."""
    states = {room_id: ROOM for room_id in rooms if room_id != "gone"} | {"keyless": RoomView()}
    items, cursor = key_replies.sync_page("alice", Sync(have), rooms, states, most=most, more=more)
    room_ids = [item.room_id for item in items]
    if cursor is None:
        return room_ids, None
    return room_ids, key_requests.decode_sync_request("alice", orjson.dumps({"cursor": cursor})).after


def test_sync_returns_keys_that_are_newer_or_missing() -> None:
    rooms = ["absent", "ahead", "gone", "keyless", "older", "same"]
    assert page({"older": 3, "same": 4, "ahead": 5, "elsewhere": 1}, rooms) == (["absent", "older"], None)


def test_page_ends_with_a_cursor_only_if_more_rooms_follow() -> None:
    assert page({}, ["a", "b", "c"], most=2) == (["a", "b"], "b")
    assert page({}, ["a", "b"], most=2) == (["a", "b"], None)
    assert page({"c": 4}, ["a", "b", "c"], most=2) == (["a", "b"], None)
    assert page({"a": 4, "c": 4}, ["a", "b", "c"], more=True) == (["b"], "c")
    assert page({"a": 4}, ["a"], more=True) == ([], "a")
    assert page({}, [], more=False) == ([], None)


def test_page_of_the_longest_room_ids_fits_one_message() -> None:
    rooms = [f"{number:03d}{chr(34) * 252}" for number in range(500)]
    states = dict.fromkeys(rooms, ROOM)
    items, _ = key_replies.sync_page("a" * 255, Sync({}), rooms, states, most=500, more=True)
    answer = key_replies.encode_sync_reply(items, states, AT, key_requests.cursor_after("alice", rooms[-1]))
    assert len(items) == 500
    assert len(answer) / 500 < 700
    assert len(answer) < 1024 * 1024


def test_error_has_three_fields_in_order() -> None:
    assert list(key_replies.error_document(WRONG).items()) == [
        ("error", "wrong"),
        ("code", "bad_request"),
        ("reason", "invalid_request"),
    ]
