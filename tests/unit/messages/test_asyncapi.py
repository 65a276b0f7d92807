"""docs/asyncapi.yaml is valid AsyncAPI, and accepts and refuses the same messages as the worker."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roomkeys.events.event import InvalidEvent
from roomkeys.keys import RoomKey
from roomkeys.messages.room_key import RoomKeyEvent, marshal
from tests.harness.asyncapi import Node, Sent, document, place
from tests.unit.builders import BODIES, SITE, decode_body
from tests.unit.decisions.scripts import commands
from tests.unit.events.wire_tables import (
    NO_OBJECT,
    NOT_TOKENS,
    WRONG_SHAPES,
    WRONG_VALUES,
    Row,
    check_each,
    not_token_rows,
)
from tests.unit.messages.asyncapi_rules import broken_rules
from tests.verification.oracle.test_event_parser import ANYTHING

KEY = orjson.loads(marshal(RoomKeyEvent("r1", RoomKey.generate(3)), 1_747_000_000_000))
IN_BYTES = "too long in bytes"
"""The one rule that JSON Schema cannot express: it counts characters, not bytes."""

READ = [(suffix, name) for suffix, fields in WRONG_VALUES.items() for name in fields]


def test_document_follows_the_asyncapi_rules() -> None:
    assert broken_rules(document()) == []
    assert document()["info"]["version"] == version("room-worker")


def _without(*path: str) -> Callable[[Node], None]:
    def change(node: Node) -> None:
        for part in path[:-1]:
            node = node[part]
        del node[path[-1]]

    return change


def _with(value: Any, *path: str) -> Callable[[Node], None]:
    def change(node: Node) -> None:
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _with("2.6.0", "asyncapi"),
        _without("info", "title"),
        _without("servers", "nats", "host"),
        _with({}, "components", "webhooks"),
        _without("components", "schemas", "Token"),
        _with({"type": "string"}, "components", "schemas", "Unused"),
        _with({"type": "text"}, "components", "schemas", "Count"),
        _with({"type": "string", "maxLenght": 5}, "components", "schemas", "Count"),
        _with(["size"], "components", "schemas", "NoRoom", "required"),
        _with({"$ref": "#/components/schemas/Count"}, "components", "messages", "key", "headers"),
        _with("text/plain", "components", "messages", "key", "content"),
        _with({}, "channels", "roomKey", "parameters"),
        _with("chat.room.deadletter.{site}", "channels", "create", "address"),
        _with("publish", "operations", "sendRoomKey", "action"),
        _with({"$ref": "#/components/messages/key"}, "operations", "sendRoomKey", "channel"),
        _with([{"$ref": "#/channels/members/messages/membersGone"}], "operations", "sendRoomKey", "messages"),
        _with({"$ref": "#/channels/roomKey"}, "operations", "answerKeyGet", "reply", "channel"),
        _without("operations", "sendRoomKey"),
    ],
)
def test_rules_find_a_planted_fault(change: Callable[[Node], None]) -> None:
    # A copy through JSON: in the document, a YAML anchor that is used twice is one object.
    planted = orjson.loads(orjson.dumps(document()))
    change(planted)
    assert broken_rules(planted) != []


def key_places(body: dict[str, Any], **headers: str) -> list[str]:
    sent = Sent("chat.user.bob.event.room.key", orjson.dumps(body), headers)
    return [found.message for found in place(sent)[0]]


def test_correct_message_is_found_in_the_document() -> None:
    assert key_places(KEY) == ["key"]


@pytest.mark.parametrize(
    "changes",
    [
        {"extra": 1},
        {"version": -1},
        {"version": "3"},
        {"version": True},
        {"roomId": "a b"},
        {"privateKey": KEY["privateKey"][:-1]},
        {"privateKey": KEY["privateKey"].replace("=", "-")},
        {"timestamp": 1.5},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_message_with_one_wrong_field_is_not_found(changes: dict[str, Any]) -> None:
    assert key_places(KEY | changes) == []


def test_missing_field_wrong_order_and_extra_header_are_not_found() -> None:
    for name in KEY:
        assert key_places({field: value for field, value in KEY.items() if field != name}) == [], name
    assert key_places(dict(reversed(KEY.items()))) == []
    assert key_places(KEY, **{"X-Request-ID": "0197a000-0000-7000-8000-000000000001"}) == []


def test_reasons_never_quote_a_message() -> None:
    wrong = orjson.dumps(KEY | {"privateKey": [KEY["privateKey"]], "extra": KEY["privateKey"]})
    sent = Sent("chat.user.bob.event.room.key", wrong)
    assert KEY["privateKey"] not in repr((sent, place(sent)))


def agree(suffix: str, body: bytes) -> None:
    """Assert that the document and the worker both accept the event, or both refuse it."""
    found, whys = place(Sent(f"chat.room.canonical.{SITE}.{suffix}", body))
    assert bool(found) is not isinstance(decode_body(suffix, body), InvalidEvent), whys


def agree_on(row: Row) -> None:
    agree(row.suffix, row.body)


def test_document_and_worker_refuse_a_body_that_is_not_an_object() -> None:
    check_each(NO_OBJECT, agree_on)


def test_document_and_worker_refuse_a_field_of_a_wrong_type() -> None:
    check_each(WRONG_SHAPES, agree_on)


def test_document_and_worker_refuse_what_is_not_a_token() -> None:
    values = [value for kind, value in NOT_TOKENS.items() if kind != IN_BYTES]
    check_each(not_token_rows(values), agree_on)


@settings(max_examples=100, deadline=None)
@given(commands)
def test_document_and_worker_agree_on_generated_events(command: Any) -> None:
    agree(command.suffix, orjson.dumps(command.body))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(READ), ANYTHING)
def test_document_and_worker_agree_on_any_value_in_any_field(field: tuple[str, str], value: Any) -> None:
    suffix, name = field
    agree(suffix, orjson.dumps(BODIES[suffix] | {name: value}))
