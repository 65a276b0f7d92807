"""What a message of the events stream asks for. (docs/contract.md, section 1)"""

import orjson
import pytest

from roomkeys.events.decode import decode as decode_event
from roomkeys.events.decode import parse, room_of
from roomkeys.events.event import Add, Create, InvalidEvent, Remove, Rotate
from roomkeys.events.position import partition_of
from roomkeys.membership import Kind
from roomkeys.subjects import Operation
from roomkeys.tokens import is_request_id
from tests.unit.builders import (
    ALICE,
    BODIES,
    SITE,
    STREAM_MS,
    add,
    changed,
    create,
    decode_body,
    event,
    incoming,
    remove,
    rotate,
)


def test_null_arrays_and_scalars_mean_empty() -> None:
    nothing = create(name=None, users=None, orgs=None, channels=None, resolvedUsers=None, timestamp=None)
    assert isinstance(nothing, Create)
    assert (nothing.name, nothing.accounts, nothing.orgs, nothing.at_ms) == ("", (), (), STREAM_MS)
    joining = add(users=None, orgs=None, channels=None, history=None, timestamp=None)
    assert isinstance(joining, Add)
    assert (joining.accounts, joining.orgs, joining.share_history) == ((), (), True)
    leaving = remove(account="bob", accounts=None, orgId=None, roomType=None)
    assert isinstance(leaving, Remove)
    assert (leaving.accounts, leaving.org) == (("bob",), None)
    assert isinstance(rotate(reason=None), Rotate)


def test_absent_fields_mean_empty() -> None:
    body = orjson.dumps({"roomId": "r1", "requesterAccount": ALICE})
    decoded = decode_body("create", body)
    assert isinstance(decoded, Create)
    assert (decoded.kind, decoded.accounts, decoded.at_ms) == (Kind.CHANNEL, (), STREAM_MS)


@pytest.mark.parametrize("suffix", BODIES)
def test_unknown_fields_are_ignored(suffix: str) -> None:
    known = decode_body(suffix, orjson.dumps(BODIES[suffix]))
    with_more = changed(suffix, colour={"deep": [1, None]}, requesterId=5, roomType=[])
    assert known is not None
    assert with_more is not None
    assert type(with_more) is type(known)
    assert (with_more.room_id, with_more.requester) == (known.room_id, known.requester)


def test_add_ignores_channels() -> None:
    assert isinstance(add("bob", channels=[{"roomId": "r2", "siteId": SITE}]), Add)


def test_accounts_named_twice_count_once() -> None:
    joining, leaving = add("bob", "carol", "bob", orgs=["eng", "eng"]), remove("bob", "bob", account="bob")
    assert isinstance(joining, Add)
    assert isinstance(leaving, Remove)
    assert (joining.accounts, joining.orgs, leaving.accounts) == (("bob", "carol"), ("eng",), ("bob",))


def test_resolved_users_and_orgs_replace_users_and_orgs() -> None:
    decoded = create(users=["bob"], orgs=["eng"], resolvedUsers=["carol"], resolvedOrgs=["ops"])
    assert isinstance(decoded, Create)
    assert (decoded.accounts, decoded.orgs) == (("carol",), ("ops",))


def test_event_with_timestamp_zero_gets_the_stream_time() -> None:
    assert isinstance(moment := rotate(timestamp=0), Rotate)
    assert moment.at_ms == STREAM_MS


@pytest.mark.parametrize("account", ["alice", "p_app", "helper.bot", "陳愛麗", "a-b_c@d", "é" * 127])
def test_every_token_is_an_account(account: str) -> None:
    assert not isinstance(add(account, requesterAccount=account), InvalidEvent)


@pytest.mark.parametrize(
    ("suffix", "operation"),
    [
        ("create", Operation.CREATE),
        ("member.add", Operation.ADD),
        ("member.remove", Operation.REMOVE),
        ("key.rotate", Operation.ROTATE),
    ],
)
@pytest.mark.parametrize("between", ["", "r1.", "some.thing."])
def test_subject_suffix_names_the_operation(suffix: str, operation: Operation, between: str) -> None:
    decoded = decode_body(f"{between}{suffix}", orjson.dumps(BODIES[suffix]))
    assert decoded is not None
    assert decoded.operation is operation


@pytest.mark.parametrize("between", ["", "r1."])
def test_removal_is_decoded_with_and_without_a_room_in_its_subject(between: str) -> None:
    decoded = event(f"{between}member.remove", **BODIES["member.remove"])
    assert isinstance(decoded, Remove)
    assert (decoded.room_id, decoded.accounts) == ("r1", ("bob",))


def test_removal_of_an_org_is_a_separate_operation() -> None:
    decoded = remove(orgId="eng", accounts=None)
    assert isinstance(decoded, Remove)
    assert (decoded.operation, decoded.org) == (Operation.REMOVE_ORG, "eng")


@pytest.mark.parametrize("suffix", ["rename", "member", "member.added", "key.rotated", "created", "xcreate"])
@pytest.mark.parametrize("body", [b"{}", b"not JSON"])
def test_event_of_another_service_is_ignored(suffix: str, body: bytes) -> None:
    assert decode_body(suffix, body) is None


def test_event_keeps_its_stream_message() -> None:
    message = incoming("key.rotate", orjson.dumps(BODIES["key.rotate"]), sequence=42, request_id="x")
    decoded = decode_event(message, parse(message.body))
    assert decoded is not None
    assert decoded.origin is message


@pytest.mark.parametrize("body", [b"not JSON", b"[]", b"{}", b'{"roomId":5}', b'{"roomId":"a b"}'])
def test_event_without_a_valid_room_belongs_to_partition_0(body: bytes) -> None:
    assert partition_of(room_of(parse(body)), 8) == 0


def test_room_always_has_the_same_partition() -> None:
    assert {partition_of("r1", 8) for _ in range(3)} == {1}


@pytest.mark.parametrize("value", ["", "x", "0" * 32, "0197a000-0000-7000-8000-00000000000g", None, 5])
def test_only_a_hyphenated_uuid_is_a_request_id(value: object) -> None:
    assert not is_request_id(value)
    assert is_request_id("0197A000-0000-7000-8000-00000000000f")
