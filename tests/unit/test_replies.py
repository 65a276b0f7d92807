"""What a subscriber reads: exactly what the worker writes, and nothing that is amiss."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomkeys import answers, replies, requests
from roomkeys.answers import RoomState
from roomkeys.keyring import HeldKey
from roomkeys.keys import RoomKey
from roomkeys.payload import RoomKeyEvent, marshal
from roomkeys.requests import Item

ONE, TWO = RoomKey(1, bytes(32)), RoomKey(2, bytes(range(32)))
STATES = {"r1": RoomState(TWO, (ONE,)), "r2": RoomState(ONE)}


def test_a_key_message_is_read_as_the_worker_writes_it() -> None:
    assert replies.read_key(marshal(RoomKeyEvent("r1", TWO), 5)) == HeldKey("r1", TWO)


def test_a_batch_is_asked_and_read_as_the_service_does() -> None:
    items = [Item("r1", 1), Item("nowhere"), Item("r2"), Item("r1", 9)]
    batch = requests.read_batch(replies.batch_request(items))
    assert list(batch.items) == items
    answer = replies.read_batch(items, answers.batch_answer(batch, STATES, 5))
    assert answer.keys == {items[0]: HeldKey("r1", ONE, in_use=False), items[2]: HeldKey("r2", ONE)}
    assert answer.codes == {items[1]: "forbidden", items[3]: "not_found"}
    assert answer.code is None


def test_an_answer_for_another_room_or_version_is_none() -> None:
    items = [Item("r2"), Item("r1", 2), Item("r1")]
    batch = requests.read_batch(replies.batch_request([Item("r1"), Item("r1", 1)]))
    answer = replies.read_batch(items, answers.batch_answer(batch, STATES, 5))
    assert (answer.keys, answer.codes) == ({}, {})


def test_a_page_is_asked_and_read_as_the_service_does() -> None:
    cursor = requests.cursor_after("bob", "r0")
    sync = requests.read_sync("bob", replies.sync_request({"r1": 1}, cursor, 10_000))
    assert (sync.have, sync.after) == ({"r1": 1}, "r0")
    page, after = answers.sync_page("bob", sync, ["r1", "r2"], STATES, most=1, more=False)
    read = replies.read_page(answers.sync_answer(page, STATES, 5, after))
    assert read == replies.Page([HeldKey("r1", TWO)], requests.cursor_after("bob", "r1"))


def test_what_is_held_is_cut_to_what_a_message_holds() -> None:
    have = {f"room-{number}": number for number in range(1000)}
    data = replies.sync_request(have, "c", 2_000)
    told = orjson.loads(data)["have"]
    assert len(data) <= 2_000
    assert 0 < len(told) < 1000
    assert told.items() <= have.items()
    assert orjson.loads(replies.sync_request(have, None, 0)) == {"have": {}}


def test_a_refusal_is_read_with_its_code() -> None:
    refusal = orjson.dumps(answers.error_document(requests.RATE_LIMITED))
    assert replies.read_batch([Item("r1")], refusal).code == "too_many_requests"
    assert replies.read_page(refusal).code == "too_many_requests"


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
    assert replies.read_key(data) is None
    assert replies.read_batch([Item("r1")], data).keys == {}
    assert list(replies.read_page(data).keys) == []


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
    assert replies.read_key(orjson.dumps({**document, **change})) is None
