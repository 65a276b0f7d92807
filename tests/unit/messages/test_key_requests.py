"""What is read from the requests of clients, and what is refused."""

from typing import Any

import orjson
import pytest

from roomkeys.errors import Rejection
from roomkeys.messages import key_requests
from roomkeys.messages.key_requests import Item
from roomkeys.tokens import is_reply

WRONG_BODIES = [b"", b"null", b"[]", b"7", b"{", b'{"a":"\xff"}', b"[" * 100_000, b'"\\ud800"']
WRONG_VERSIONS: list[Any] = ["1", -1, 1.5, 3.0, True, [], {}, 2**53, 2**64 - 1, 1e30]


def reason(read: Any, *args: Any) -> str:
    with pytest.raises(Rejection) as caught:
        read(*args)
    assert caught.value.info.code == "bad_request"
    return caught.value.info.reason


@pytest.mark.parametrize("body", [b"", b"{}", b'{"version":null}', b'{"unknown":1}'])
def test_get_without_a_version_asks_for_the_key_in_use(body: bytes) -> None:
    assert key_requests.decode_get_request("r1", body) == Item("r1")


@pytest.mark.parametrize("version", [0, 7, 2**53 - 1])
def test_get_can_name_a_version(version: int) -> None:
    assert key_requests.decode_get_request("r1", orjson.dumps({"version": version})) == Item("r1", version)


@pytest.mark.parametrize("body", [body for body in WRONG_BODIES if body])
def test_get_with_an_invalid_body_carries_the_error(body: bytes) -> None:
    error = key_requests.decode_get_request("r1", body).error
    assert error is not None
    assert (error.code, error.reason) == ("bad_request", "invalid_request")


@pytest.mark.parametrize("version", WRONG_VERSIONS)
def test_invalid_version_is_the_error_of_its_item_only(version: Any) -> None:
    asked = [{"roomId": "r1", "version": version}, {"roomId": "r2", "version": 2}]
    wrong, right = key_requests.decode_batch_request(orjson.dumps({"requests": asked})).items
    assert (wrong.room_id, wrong.error is None, right) == ("r1", False, Item("r2", 2))
    assert key_requests.decode_get_request("r1", orjson.dumps({"version": version})).error == wrong.error


@pytest.mark.parametrize("value", [None, 7, "r1", [], {}, {"roomId": None}, {"roomId": ""}, {"roomId": "x" * 256}])
def test_item_without_a_room_carries_the_error(value: Any) -> None:
    wrong, right = key_requests.decode_batch_request(orjson.dumps({"requests": [value, {"roomId": "r2"}]})).items
    assert (wrong.room_id, wrong.error is None, right) == ("", False, Item("r2"))


def test_batch_keeps_order_and_duplicates() -> None:
    asked = [{"roomId": "b"}, {"roomId": "a", "version": 1}, {"roomId": "b"}, {"roomId": "a", "version": 0}]
    batch = key_requests.decode_batch_request(orjson.dumps({"requests": asked}))
    assert batch.items == (Item("b"), Item("a", 1), Item("b"), Item("a", 0))


@pytest.mark.parametrize(
    ("fields", "read"),
    [
        (None, ("version", "privateKey")),
        ([], ("version", "privateKey")),
        (["version"], ("version",)),
        (["privateKey"], ("privateKey",)),
        (["privateKey", "version", "version"], ("version", "privateKey")),
    ],
)
def test_batch_can_name_the_fields_it_wants(fields: Any, read: tuple[str, ...]) -> None:
    body = {"requests": [{"roomId": "r1"}], "fields": fields}
    assert key_requests.decode_batch_request(orjson.dumps(body)).fields == read


@pytest.mark.parametrize("fields", ["version", {"version": 1}, [1], ["priv"], ["version", None]])
def test_unknown_fields_of_a_batch_are_refused(fields: Any) -> None:
    body = orjson.dumps({"requests": [{"roomId": "r1"}], "fields": fields})
    assert reason(key_requests.decode_batch_request, body) == "invalid_request"


@pytest.mark.parametrize("items", [None, [], {}, "r1", [{"roomId": "r1"}] * 101])
def test_batch_and_status_have_1_to_100_items(items: Any) -> None:
    assert reason(key_requests.decode_batch_request, orjson.dumps({"requests": items})) == "invalid_request"
    assert reason(key_requests.decode_status_request, orjson.dumps({"roomIds": items})) == "invalid_request"
    assert len(key_requests.decode_batch_request(orjson.dumps({"requests": [{"roomId": "r1"}] * 100})).items) == 100


@pytest.mark.parametrize("body", WRONG_BODIES)
def test_batch_and_status_with_an_invalid_body_are_refused(body: bytes) -> None:
    assert reason(key_requests.decode_batch_request, body) == "invalid_request"
    assert reason(key_requests.decode_status_request, body) == "invalid_request"


def test_status_names_each_room_once_in_order() -> None:
    body = orjson.dumps({"roomIds": ["b", "a", "b", "a b"]})
    assert key_requests.decode_status_request(body) == ("b", "a", "a b")


def test_status_accepts_texts_that_cannot_be_room_ids() -> None:
    assert key_requests.decode_status_request(orjson.dumps({"roomIds": ["r1", "", "x" * 256]})) == ("r1", "", "x" * 256)


@pytest.mark.parametrize("room_ids", [[7], [None], ["r1", {}]])
def test_status_with_a_room_id_that_is_not_text_is_refused(room_ids: Any) -> None:
    assert reason(key_requests.decode_status_request, orjson.dumps({"roomIds": room_ids})) == "invalid_request"


@pytest.mark.parametrize("body", [b"", b"{}", b'{"have":null}', b'{"have":{},"cursor":null}'])
def test_sync_without_versions_begins_at_the_first_room(body: bytes) -> None:
    assert key_requests.decode_sync_request("alice", body) == key_requests.Sync({}, "")


@pytest.mark.parametrize("have", [[], "x", 7, {"r1": None}, *({"r1": version} for version in WRONG_VERSIONS)])
def test_sync_with_invalid_versions_is_refused(have: Any) -> None:
    assert reason(key_requests.decode_sync_request, "alice", orjson.dumps({"have": have})) == "invalid_request"


@pytest.mark.parametrize("room_id", ["r1", "zoë", "a.b", "x" * 255])
def test_cursor_is_read_back_as_its_room(room_id: str) -> None:
    cursor = key_requests.cursor_after("alice", room_id)
    body = orjson.dumps({"have": {"r0": 3}, "cursor": cursor})
    assert key_requests.decode_sync_request("alice", body) == key_requests.Sync({"r0": 3}, room_id)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "r1",
        "garbage!",
        "YWJjZGVmZ2g=",
        "ü",
        7,
        [],
        {},
        key_requests.cursor_after("bob", "r1"),
        "AAAA",
        "A" * 10_000,
    ],
)
def test_cursor_not_issued_to_this_account_is_refused(cursor: Any) -> None:
    assert reason(key_requests.decode_sync_request, "alice", orjson.dumps({"cursor": cursor})) == "invalid_cursor"


@pytest.mark.parametrize("address", ["_INBOX.a", "_INBOX.abc.def", "_INBOX.x-y_z.1"])
def test_inbox_is_a_valid_reply_address(address: str) -> None:
    assert is_reply(address, ["_INBOX."])
    assert is_reply(f"app{address}", ["_INBOX.", "app_INBOX."])


@pytest.mark.parametrize(
    "address",
    [
        "",
        "_INBOX",
        "_INBOX.",
        "_INBOX..a",
        "_INBOX.*",
        "_INBOX.>",
        "_INBOX.a b",
        "_INBOX.a\r\nPUB x 0",
        "_INBOXES.a",
        "x_INBOX.a",
        "chat.user.bob.event.room.key",
        "chat.room.canonical.site-a.create",
        "$JS.API.STREAM.PURGE.ROOMS",
        "_INBOX." + ".".join(["x" * 250] * 5),
    ],
)
def test_any_other_address_is_not_a_reply_address(address: str) -> None:
    assert not is_reply(address, ["_INBOX."])
