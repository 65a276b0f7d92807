"""Fields that the worker ignores may hold any JSON, and an event that is not JSON is answered if that is possible."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roomkeys.events.event import AnyEvent, InvalidEvent
from tests.unit.builders import ALICE, BODIES, decode_body

ODD = [b"1e400", b"-1e400", b"9" * 5_000, b"-" + b"9" * 5_000, b"0." + b"1" * 5_000, rb'"\ud83d"', rb'"\udc00\ud83d"']
KNOWN = {"roomId", "name", "users", "orgs", "channels", "resolvedUsers", "resolvedOrgs", "history", "account"}
KNOWN |= {"accounts", "orgId", "requester", "requesterAccount", "timestamp"}

texts = st.text(st.characters(exclude_categories=[]), max_size=5).filter(lambda name: name not in KNOWN)


def quoted(text: str) -> bytes:
    """Return JSON of a text, with halves of surrogate pairs as escapes."""
    return b'"' + b"".join(rb"\u%04x" % ord(char) if ord(char) < 65_536 else char.encode() for char in text) + b'"'


def array(items: list[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"


def members(fields: dict[str, bytes]) -> bytes:
    return b",".join(quoted(name) + b":" + value for name, value in fields.items())


leaves = st.sampled_from([*ODD, b"null", b"true", b"-0", b"1e-400"]) | texts.map(quoted)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3).map(array)
        | st.dictionaries(texts, inner, max_size=3).map(lambda fields: b"{" + members(fields) + b"}")
    ),
    max_leaves=8,
)


def without_body(event: AnyEvent | None) -> AnyEvent:
    assert event is not None
    return replace(event, origin=replace(event.origin, body=b""))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(BODIES)), st.dictionaries(texts, values, min_size=1, max_size=3), st.booleans())
def test_ignored_fields_may_hold_any_json(suffix: str, ignored: dict[str, bytes], first: bool) -> None:
    body = orjson.dumps(BODIES[suffix])
    extra = members(ignored)
    with_extra = b"{" + extra + b"," + body[1:] if first else body[:-1] + b"," + extra + b"}"
    expected = without_body(decode_body(suffix, body))
    assert not isinstance(expected, InvalidEvent)
    assert without_body(decode_body(suffix, with_extra)) == expected


@pytest.mark.parametrize("odd", ODD)
def test_ignored_field_inside_a_known_one_may_hold_any_json(odd: bytes) -> None:
    body = orjson.dumps(BODIES["member.add"])[:-1] + b',"history":{"mode":"none","x":%s},"channels":[%s]}' % (odd, odd)
    expected = orjson.dumps(BODIES["member.add"] | {"history": {"mode": "none"}})
    assert without_body(decode_body("member.add", body)) == without_body(decode_body("member.add", expected))


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("field", ["timestamp", "name", "users", "orgs", "channels", "roomId"])
def test_known_field_with_an_odd_value_is_refused_and_the_requester_is_answered(field: str, odd: bytes) -> None:
    rest = {name: value for name, value in BODIES["create"].items() if name != field}
    for value in (odd, b"[" + odd + b"]"):
        if field == "channels" and value.startswith(b"["):
            continue  # of channels, only the presence counts
        body = orjson.dumps(rest)[:-1] + b',"%s":%s}' % (field.encode(), value)
        decoded = decode_body("create", body)
        assert isinstance(decoded, InvalidEvent), value[:20]
        assert decoded.requester == ALICE


BROKEN = [
    b'{"requester":"alice","roomId":"r1","x":NaN}',
    b'{"requester":"alice","roomId":"r1","x":-Infinity}',
    b'{"requester":"alice","roomId":"r\xff"}',
    b'{"roomId":"r1","requester":"alice","x":"\xed\xa0\xbd"}',
    b'{"roomId":"r1","x":' + b"[" * 5_000 + b"]" * 5_000 + b',"requester":"alice"}',
    b'{"requester":"alice","roomId":"r1"',
    b'{"requester":"alice","roomId":"r1"}}',
    b'\xef\xbb\xbf{"requester":"alice"}',
    b'{"requester":"\\u0061lice",,}',
    b'{"requester": "alice", "users": ["bob", {"requester": "bob"}], "x"}',
    b'{"x":"requester","y":"bob","requester":"alice","z":\'}',
    b'{"requester":"mallory", "requesterAccount":"alice", x}',
]


@pytest.mark.parametrize("body", BROKEN)
def test_requester_of_a_body_that_is_not_json_is_answered(body: bytes) -> None:
    decoded = decode_body("key.rotate", body)
    assert isinstance(decoded, InvalidEvent)
    assert (decoded.error.reason, decoded.requester, decoded.room_id) == ("invalid_event", "alice", None)


@pytest.mark.parametrize(
    "body",
    [
        b'[{"requester":"alice"}]',
        b'{"x":{"requester":"alice"},}',
        b'{"x":"\\"requester\\":\\"alice\\"",}',
        b'{"requester":"al\xffice",}',
        b'{"requester":"a b",}',
        b'{"requester":"\\ud83d",}',
        b'{"requester":"alice',
        b'{"requester":["alice"],}',
        b'"requester":"alice"',
        '{"requester":"alice"}'.encode("utf-16"),
        b'{"a' + b'\\"' * 500_000,
        b'{"requester":"' + b"\\" * 1_000_001,
        b'{"' * 500_000,
    ],
)
def test_requester_that_cannot_be_made_out_is_not_guessed(body: bytes) -> None:
    decoded = decode_body("key.rotate", body)
    assert isinstance(decoded, InvalidEvent)
    assert decoded.requester is None
