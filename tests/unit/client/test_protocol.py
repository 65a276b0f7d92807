"""The client's side of the wire: decodes what the service encodes, and ignores what is malformed."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomkeys.client import protocol
from roomkeys.client.keyring import HeldKey
from roomkeys.client.membership import MembershipNotice
from roomkeys.keys import RoomKey
from roomkeys.membership import Member, RoomView
from roomkeys.messages import key_replies, key_requests
from roomkeys.messages.key_requests import Item
from roomkeys.messages.notices import notices
from roomkeys.messages.room_key import RoomKeyEvent, marshal
from tests.unit.builders import NOW, add, decided, only_outcome, room, snapshot, user

ONE, TWO = RoomKey(1, bytes(32)), RoomKey(2, bytes(range(32)))
STATES = {"r1": RoomView(TWO, (ONE,)), "r2": RoomView(ONE)}


def test_a_key_message_of_the_worker_is_decoded() -> None:
    sent = protocol.decode_key_message(marshal(RoomKeyEvent("r1", TWO), 5))
    assert sent == protocol.KeyMessage(HeldKey("r1", TWO), 5)


def test_notices_of_the_worker_are_decoded() -> None:
    outcome = only_outcome(decided(snapshot([user("alice"), user("bob")], room(), ["alice"]), add("bob")))
    gone = replace(outcome, added=(), removed=(Member("s1", "u-bob", "bob"),))
    decoded = [protocol.decode_notice(next(notices(item)).body) for item in (outcome, gone)]
    assert decoded == [MembershipNotice("r1", NOW, is_member=True), MembershipNotice("r1", NOW, is_member=False)]


@pytest.mark.parametrize(
    "change",
    [
        {"action": "muted"},
        {"action": None},
        {"subscription": None},
        {"subscription": {}},
        {"subscription": {"roomId": 7}},
    ],
)
def test_another_message_is_no_notice(change: dict[str, Any]) -> None:
    notice = {"subscription": {"roomId": "r1"}, "action": "added", "timestamp": 5}
    assert protocol.decode_notice(orjson.dumps(notice)) == MembershipNotice("r1", 5, is_member=True)
    assert protocol.decode_notice(orjson.dumps({**notice, **change})) is None
    assert protocol.decode_notice(b"[]") is None


def test_a_message_without_a_time_is_older_than_every_other() -> None:
    document = orjson.loads(marshal(RoomKeyEvent("r1", TWO), 5))
    for time in (None, "5", 5.5):
        sent = protocol.decode_key_message(orjson.dumps({**document, "timestamp": time}))
        assert sent == protocol.KeyMessage(HeldKey("r1", TWO), 0)


def test_batch_request_and_reply_agree_with_the_service() -> None:
    items = [Item("r1", 1), Item("nowhere"), Item("r2"), Item("r1", 9)]
    batch = key_requests.decode_batch_request(protocol.encode_batch_request(items))
    assert list(batch.items) == items
    answer = protocol.decode_batch_reply(items, key_replies.encode_batch_reply(batch, STATES, 5))
    assert answer.keys == {items[0]: HeldKey("r1", ONE, in_use=False), items[2]: HeldKey("r2", ONE)}
    assert answer.codes == {items[1]: "forbidden", items[3]: "not_found"}
    assert answer.code is None


def test_a_result_for_another_room_or_version_is_ignored() -> None:
    items = [Item("r2"), Item("r1", 2), Item("r1")]
    batch = key_requests.decode_batch_request(protocol.encode_batch_request([Item("r1"), Item("r1", 1)]))
    answer = protocol.decode_batch_reply(items, key_replies.encode_batch_reply(batch, STATES, 5))
    assert (answer.keys, answer.codes) == ({}, {})


def test_sync_request_and_reply_agree_with_the_service() -> None:
    cursor = key_requests.cursor_after("bob", "r0")
    sync = key_requests.decode_sync_request("bob", protocol.encode_sync_request({"r1": 1}, cursor, 10_000))
    assert (sync.have, sync.after) == ({"r1": 1}, "r0")
    page, after = key_replies.sync_page("bob", sync, ["r1", "r2"], STATES, most=1, more=False)
    read = protocol.decode_sync_reply(key_replies.encode_sync_reply(page, STATES, 5, after))
    assert read == protocol.SyncReply([HeldKey("r1", TWO)], key_requests.cursor_after("bob", "r1"))


def test_a_sync_request_leaves_out_versions_that_do_not_fit() -> None:
    have = {f"room-{number}": number for number in range(1000)}
    data = protocol.encode_sync_request(have, "c", 2_000)
    sent = orjson.loads(data)["have"]
    assert len(data) <= 2_000
    assert 0 < len(sent) < 1000
    assert sent.items() <= have.items()
    assert orjson.loads(protocol.encode_sync_request(have, None, 0)) == {"have": {}}


def test_a_refused_request_is_decoded_with_its_code() -> None:
    refusal = orjson.dumps(key_replies.error_document(key_requests.RATE_LIMITED))
    assert protocol.decode_batch_reply([Item("r1")], refusal).code == "too_many_requests"
    assert protocol.decode_sync_reply(refusal).code == "too_many_requests"


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
def test_arbitrary_bytes_yield_no_key_and_raise_nothing(data: bytes) -> None:
    assert protocol.decode_key_message(data) is None
    assert protocol.decode_notice(data) is None
    assert protocol.decode_batch_reply([Item("r1")], data).keys == {}
    assert list(protocol.decode_sync_reply(data).keys) == []


@pytest.mark.parametrize(
    "change",
    [{"roomId": ""}, {"roomId": 1}, {"version": -1}, {"version": True}, {"privateKey": "AAAA"}, {"privateKey": "!"}],
)
def test_a_key_message_with_an_invalid_field_is_ignored(change: dict[str, Any]) -> None:
    document = orjson.loads(marshal(RoomKeyEvent("r1", TWO), 5))
    assert protocol.decode_key_message(orjson.dumps({**document, **change})) is None


@pytest.mark.parametrize(
    ("view", "has_no_key"),
    [
        (RoomView(users=2), True),
        (RoomView(users=1, apps=1), True),
        (RoomView(users=2, rotating=True), False),
        (RoomView(ONE, users=2), False),
        (RoomView(users=5_000), False),
        (RoomView(), False),
    ],
    ids=["dm", "dm with a bot", "new channel of two", "channel of two", "large room being created", "no counts"],
)
def test_status_shows_which_rooms_are_dms(view: RoomView, *, has_no_key: bool) -> None:
    statuses = protocol.decode_status_reply(key_replies.encode_status_reply(["r1"], {"r1": view}))
    assert not isinstance(statuses, str)
    assert statuses["r1"].has_no_key is has_no_key
