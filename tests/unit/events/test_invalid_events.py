"""Contract, sections 1 and 4: every way in which a message cannot be read, and what is kept of it."""

import orjson
import pytest

from roomkeys.events.event import AnyEvent, InvalidEvent
from tests.unit.builders import ALICE, BODIES, changed, decode_body

CANARY = "CANARY7f3a"
NO_OBJECT = {
    "nothing": b"",
    "not JSON": b"{roomId: r1}",
    "cut off": b'{"roomId":"r1"',
    "two documents": b"{}{}",
    "invalid UTF-8": b'{"roomId":"r\xff"}',
    "half a surrogate": rb'{"roomId":"r\ud800"}',
    "not a number": b'{"timestamp":NaN}',
    "a list": b"[]",
    "a text": b'"r1"',
    "null": b"null",
    "5,000 levels": b'{"roomId":"r1","x":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "5,000 levels left open": b'{"a":' * 5_000,
}
NOT_TOKENS = {
    "space": "a b",
    "dot": "x.y",
    "star": "*",
    "wildcard": ">",
    "inner star": "a*b",
    "forged line": "a\r\nPUB x 0\r\n",
    "newline": "a\n",
    "tab": "a\tb",
    "nul": "a\x00",
    "delete": "a\x7f",
    "no-break space": "a\xa0b",
    "next line": "a\x85b",
    "line separator": "a\u2028b",
    "ideographic space": "a\u3000b",
    "too long": "a" * 256,
    "too long in bytes": "é" * 128,
}
TEXT_OR_NULL = [5, 1.5, True, [], {}]
NOT_TEXTS = ["bob", 5, True, {}, [5], [None], [["bob"]], [{}]]
NOT_TIMES = [-1, 1.5, "1747000000000", True, [], {}, 253_402_300_800_000]
WRONG: dict[str, dict[str, list[object]]] = {
    "create": {
        "roomId": [None, "", *TEXT_OR_NULL],
        "name": [*TEXT_OR_NULL, "n" * 1_025],
        "users": NOT_TEXTS,
        "orgs": [*NOT_TEXTS, [""]],
        "resolvedUsers": NOT_TEXTS,
        "resolvedOrgs": NOT_TEXTS,
        "channels": ["r2", 5, {}],
        "requesterAccount": [None, *TEXT_OR_NULL],
        "timestamp": NOT_TIMES,
    },
    "member.add": {
        "roomId": [None, "", *TEXT_OR_NULL],
        "users": NOT_TEXTS,
        "orgs": [*NOT_TEXTS, [""]],
        "history": ["none", 5, [], {"mode": 5}],
        "requesterAccount": [None, *TEXT_OR_NULL],
        "timestamp": NOT_TIMES,
    },
    "member.remove": {
        "roomId": [None, "", *TEXT_OR_NULL],
        "account": TEXT_OR_NULL[:3],
        "accounts": NOT_TEXTS,
        "orgId": [5, True, ["eng"], {"eng": 1}, "eng"],
        "requester": [None, *TEXT_OR_NULL],
        "timestamp": NOT_TIMES,
    },
    "key.rotate": {
        "roomId": [None, "", *TEXT_OR_NULL],
        "requester": [None, *TEXT_OR_NULL],
        "timestamp": NOT_TIMES,
    },
}


WRONG_SHAPES = [
    (suffix, name, value)
    for suffix, fields in WRONG.items()
    for name, values in fields.items()
    for value in values
]


def reason(decoded: AnyEvent | None) -> tuple[str, str]:
    assert isinstance(decoded, InvalidEvent)
    return decoded.error.code, decoded.error.reason


@pytest.mark.parametrize("suffix", BODIES)
@pytest.mark.parametrize("body", NO_OBJECT.values(), ids=NO_OBJECT.keys())
def test_a_body_that_is_no_json_object_is_poison(body: bytes, suffix: str) -> None:
    assert reason(decode_body(suffix, body)) == ("bad_request", "invalid_event")


@pytest.mark.parametrize(("suffix", "name", "value"), WRONG_SHAPES)
def test_a_field_of_the_wrong_type_is_poison(suffix: str, name: str, value: object) -> None:
    assert reason(changed(suffix, **{name: value})) == ("bad_request", "invalid_event")


def test_a_timestamp_beyond_64_bits_is_poison() -> None:
    body = b'{"roomId":"r1","requester":"alice","timestamp":1180591620717411303424}'
    assert reason(decode_body("key.rotate", body)) == ("bad_request", "invalid_event")


@pytest.mark.parametrize("suffix", BODIES)
@pytest.mark.parametrize("field", ["roomId", "requester", "requesterAccount"])
def test_a_field_that_must_be_there_is_missed(suffix: str, field: str) -> None:
    body = {name: value for name, value in BODIES[suffix].items() if name != field}
    if field in BODIES[suffix]:
        assert reason(decode_body(suffix, orjson.dumps(body))) == ("bad_request", "invalid_event")


@pytest.mark.parametrize("suffix", BODIES)
@pytest.mark.parametrize("value", NOT_TOKENS.values(), ids=NOT_TOKENS.keys())
def test_a_room_id_that_is_no_token_is_poison_without_a_room(value: str, suffix: str) -> None:
    decoded = changed(suffix, roomId=value)
    assert reason(decoded) == ("bad_request", "invalid_account")
    assert decoded is not None
    assert decoded.room_id is None


@pytest.mark.parametrize("value", [*NOT_TOKENS.values(), "", ".bot", "a.bot.bot", "a b.bot", "a.bot."])
@pytest.mark.parametrize(
    ("suffix", "field"),
    [
        ("create", "users"),
        ("create", "resolvedUsers"),
        ("create", "requesterAccount"),
        ("member.add", "users"),
        ("member.add", "requesterAccount"),
        ("member.remove", "accounts"),
        ("member.remove", "requester"),
        ("key.rotate", "requester"),
    ],
)
def test_an_account_that_is_no_token_is_poison_of_its_room(suffix: str, field: str, value: str) -> None:
    decoded = changed(suffix, **{field: value if field.startswith("req") else ["bob", value]})
    assert reason(decoded) == ("bad_request", "invalid_account")
    assert decoded is not None
    assert decoded.room_id == "r1"


def test_a_poison_keeps_the_requester_that_can_be_answered() -> None:
    assert changed("member.add", users=5, requesterAccount=ALICE).requester == ALICE  # type: ignore[union-attr]


@pytest.mark.parametrize("requester", ["a b", "a.bot", 5, None])
def test_a_poison_names_no_requester_that_cannot_be_answered(requester: object) -> None:
    decoded = changed("key.rotate", requester=requester, timestamp="never")
    assert decoded is not None
    assert decoded.requester is None


@pytest.mark.parametrize("who", [{}, {"account": ""}, {"account": "bob", "orgId": "eng"}])
def test_a_removal_that_names_nobody_or_both_ways_is_poison(who: dict[str, object]) -> None:
    body = {"roomId": "r1", "requester": ALICE} | who
    assert reason(decode_body("member.remove", orjson.dumps(body))) == ("bad_request", "invalid_event")


@pytest.mark.parametrize(("suffix", "name", "value"), WRONG_SHAPES)
def test_error_texts_never_quote_the_payload(suffix: str, name: str, value: object) -> None:
    def salted(value: object) -> object:
        match value:
            case str():
                return f"{CANARY} {value}"
            case list():
                return [CANARY, *map(salted, value), {CANARY: CANARY}]
            case dict():
                return {CANARY: CANARY} | {key: salted(inner) for key, inner in value.items()}
            case _:
                return CANARY + " "

    decoded = decode_body(suffix, orjson.dumps(BODIES[suffix] | {name: salted(value), CANARY: CANARY}))
    if isinstance(decoded, InvalidEvent):
        assert CANARY not in repr(decoded.error)


@pytest.mark.parametrize("suffix", BODIES)
def test_error_texts_quote_no_bad_account_or_room(suffix: str) -> None:
    fields = [{"roomId": f"{CANARY} x"}, {"requester": f"{CANARY}.x", "requesterAccount": f"{CANARY}.x"}]
    for decoded in (changed(suffix, **field) for field in fields):
        assert isinstance(decoded, InvalidEvent)
        assert CANARY not in repr(decoded.error)
