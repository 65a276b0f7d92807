"""What a subscriber reads: exactly what the worker writes, and nothing that is amiss."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomkeys.client import protocol
from roomkeys.client.keyring import HeldKey
from roomkeys.keys import RoomKey
from roomkeys.membership import RoomView
from roomkeys.messages import key_replies, key_requests
from roomkeys.messages.key_requests import Item
from roomkeys.messages.room_key import RoomKeyEvent, marshal

ONE, TWO = RoomKey(1, bytes(32)), RoomKey(2, bytes(range(32)))
STATES = {"r1": RoomView(TWO, (ONE,)), "r2": RoomView(ONE)}


def test_a_key_message_is_read_as_the_worker_writes_it() -> None:
    assert protocol.read_key(marshal(RoomKeyEvent("r1", TWO), 5)) == HeldKey("r1", TWO)


def test_a_batch_is_asked_and_read_as_the_service_does() -> None:
    items = [Item("r1", 1), Item("nowhere"), Item("r2"), Item("r1", 9)]
    batch = key_requests.read_batch(protocol.batch_request(items))
    assert list(batch.items) == items
    answer = protocol.read_batch(items, key_replies.batch_answer(batch, STATES, 5))
    assert answer.keys == {items[0]: HeldKey("r1", ONE, in_use=False), items[2]: HeldKey("r2", ONE)}
    assert answer.codes == {items[1]: "forbidden", items[3]: "not_found"}
    assert answer.code is None


def test_an_answer_for_another_room_or_version_is_none() -> None:
    items = [Item("r2"), Item("r1", 2), Item("r1")]
    batch = key_requests.read_batch(protocol.batch_request([Item("r1"), Item("r1", 1)]))
    answer = protocol.read_batch(items, key_replies.batch_answer(batch, STATES, 5))
    assert (answer.keys, answer.codes) == ({}, {})


def test_a_page_is_asked_and_read_as_the_service_does() -> None:
    cursor = key_requests.cursor_after("bob", "r0")
    sync = key_requests.read_sync("bob", protocol.sync_request({"r1": 1}, cursor, 10_000))
    assert (sync.have, sync.after) == ({"r1": 1}, "r0")
    page, after = key_replies.sync_page("bob", sync, ["r1", "r2"], STATES, most=1, more=False)
    read = protocol.read_page(key_replies.sync_answer(page, STATES, 5, after))
    assert read == protocol.Page([HeldKey("r1", TWO)], key_requests.cursor_after("bob", "r1"))


def test_what_is_held_is_cut_to_what_a_message_holds() -> None:
    have = {f"room-{number}": number for number in range(1000)}
    data = protocol.sync_request(have, "c", 2_000)
    told = orjson.loads(data)["have"]
    assert len(data) <= 2_000
    assert 0 < len(told) < 1000
    assert told.items() <= have.items()
    assert orjson.loads(protocol.sync_request(have, None, 0)) == {"have": {}}


def test_a_refusal_is_read_with_its_code() -> None:
    refusal = orjson.dumps(key_replies.error_document(key_requests.RATE_LIMITED))
    assert protocol.read_batch([Item("r1")], refusal).code == "too_many_requests"
    assert protocol.read_page(refusal).code == "too_many_requests"


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["results", "roomId", "version", "privateKey", "status", "code", "cursor"]), inner
        )
    ),
    max_leaves=12,
)


@given(JSON.map(orjson.dumps) | st.binary(max_size=20))
def test_garbage_brings_no_key_and_no_error(data: bytes) -> None:
    assert protocol.read_key(data) is None
    assert protocol.read_batch([Item("r1")], data).keys == {}
    assert list(protocol.read_page(data).keys) == []


@pytest.mark.parametrize(
    "change",
    [
        {"roomId": ""},
        {"roomId": 1},
        {"version": -1},
        {"version": True},
        {"privateKey": "AAAA"},
        {"privateKey": "!"},
    ],
)
def test_a_key_with_one_wrong_field_is_none(change: dict[str, Any]) -> None:
    document = orjson.loads(marshal(RoomKeyEvent("r1", TWO), 5))
    assert protocol.read_key(orjson.dumps({**document, **change})) is None
