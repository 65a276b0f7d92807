"""Events that can never succeed, and what is kept of them. (docs/contract.md, sections 1 and 4)"""

import orjson
import pytest

from roomkeys.events.event import AnyEvent, InvalidEvent
from tests.unit.builders import ALICE, BODIES, changed, decode_body
from tests.unit.events.wire_tables import NO_OBJECT, NOT_TOKENS, WRONG_SHAPES, Row, check_each, with_value

CANARY = "CANARY7f3a"


def reason(decoded: AnyEvent | None) -> tuple[str, str]:
    assert isinstance(decoded, InvalidEvent)
    return decoded.error.code, decoded.error.reason


def is_invalid_event(row: Row) -> None:
    assert reason(decode_body(row.suffix, row.body)) == ("bad_request", "invalid_event")


def test_body_that_is_not_a_json_object_is_invalid() -> None:
    check_each(NO_OBJECT, is_invalid_event)


def test_field_of_a_wrong_type_is_invalid() -> None:
    check_each(WRONG_SHAPES, is_invalid_event)


def test_timestamp_beyond_64_bits_is_invalid() -> None:
    body = b'{"roomId":"r1","requester":"alice","timestamp":1180591620717411303424}'
    assert reason(decode_body("key.rotate", body)) == ("bad_request", "invalid_event")


@pytest.mark.parametrize("suffix", BODIES)
@pytest.mark.parametrize("field", ["roomId", "requester", "requesterAccount"])
def test_missing_required_field_is_invalid(suffix: str, field: str) -> None:
    body = {name: value for name, value in BODIES[suffix].items() if name != field}
    if field in BODIES[suffix]:
        assert reason(decode_body(suffix, orjson.dumps(body))) == ("bad_request", "invalid_event")


def test_room_id_that_is_not_a_token_is_invalid_and_names_no_room() -> None:
    def check(row: Row) -> None:
        decoded = decode_body(row.suffix, row.body)
        assert reason(decoded) == ("bad_request", "invalid_room")
        assert isinstance(decoded, InvalidEvent)
        assert decoded.room_id is None
        assert decoded.error.text.startswith("roomId ")

    check_each([with_value(suffix, "roomId", value) for suffix in BODIES for value in NOT_TOKENS.values()], check)


ACCOUNT_FIELDS = [
    ("create", "users"),
    ("create", "resolvedUsers"),
    ("create", "requesterAccount"),
    ("member.add", "users"),
    ("member.add", "requesterAccount"),
    ("member.remove", "accounts"),
    ("member.remove", "requester"),
    ("key.rotate", "requester"),
]
NOT_ACCOUNTS = [*NOT_TOKENS.values(), "", ".bot", "a.bot.bot", "a b.bot", "a.bot."]


def test_account_that_is_not_a_token_is_invalid_and_names_its_room() -> None:
    def check(row: Row) -> None:
        decoded = decode_body(row.suffix, row.body)
        assert reason(decoded) == ("bad_request", "invalid_account")
        assert isinstance(decoded, InvalidEvent)
        assert decoded.room_id == "r1"
        assert row.field in decoded.error.text

    rows = [
        with_value(suffix, name, value if name.startswith("req") else ["bob", value])
        for suffix, name in ACCOUNT_FIELDS
        for value in NOT_ACCOUNTS
    ]
    check_each(rows, check)


def test_invalid_event_keeps_a_requester_that_can_be_answered() -> None:
    assert changed("member.add", users=5, requesterAccount=ALICE).requester == ALICE  # type: ignore[union-attr]


@pytest.mark.parametrize("requester", ["a b", "a.bot", 5, None])
def test_invalid_event_drops_a_requester_that_cannot_be_answered(requester: object) -> None:
    decoded = changed("key.rotate", requester=requester, timestamp="never")
    assert decoded is not None
    assert decoded.requester is None


@pytest.mark.parametrize("who", [{}, {"account": ""}, {"account": "bob", "orgId": "eng"}])
def test_removal_of_nobody_or_of_an_org_and_accounts_is_invalid(who: dict[str, object]) -> None:
    body = {"roomId": "r1", "requester": ALICE} | who
    assert reason(decode_body("member.remove", orjson.dumps(body))) == ("bad_request", "invalid_event")


def salted(value: object) -> object:
    """Return the value with the canary in every text and key of it."""
    match value:
        case str():
            return f"{CANARY} {value}"
        case list():
            return [CANARY, *map(salted, value), {CANARY: CANARY}]
        case dict():
            return {CANARY: CANARY} | {key: salted(inner) for key, inner in value.items()}
        case _:
            return CANARY + " "


def test_error_text_never_quotes_the_payload() -> None:
    def check(row: Row) -> None:
        body = BODIES[row.suffix] | {row.field: salted(row.value), CANARY: CANARY}
        decoded = decode_body(row.suffix, orjson.dumps(body))
        if isinstance(decoded, InvalidEvent):
            assert CANARY not in repr(decoded.error)

    check_each(WRONG_SHAPES, check)


@pytest.mark.parametrize("suffix", BODIES)
def test_error_text_never_quotes_an_invalid_account_or_room_id(suffix: str) -> None:
    fields = [{"roomId": f"{CANARY} x"}, {"requester": f"{CANARY}.x", "requesterAccount": f"{CANARY}.x"}]
    for decoded in (changed(suffix, **field) for field in fields):
        assert isinstance(decoded, InvalidEvent)
        assert CANARY not in repr(decoded.error)
