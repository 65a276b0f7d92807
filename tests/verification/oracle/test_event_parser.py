"""The oracle parses events as the worker does, although neither uses the code of the other."""

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from roomkeys.events.event import InvalidEvent
from tests.unit.builders import BODIES, SITE, STREAM_MS, decode_body
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
from tests.verification.oracle.event_parser import ParsedEvent, parse
from tests.verification.oracle.recording import Event

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "bob", "a b", "x.bot", "n" * 1_025]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["mode"]), inner),
    max_leaves=4,
)
FIELDS = sorted({name for fields in WRONG_VALUES.values() for name in fields})


def parsed(suffix: str, body: bytes) -> ParsedEvent:
    found = parse(Event(1, STREAM_MS, f"chat.room.canonical.{SITE}.{suffix}", body))
    assert found is not None
    return found


def agree(suffix: str, body: bytes) -> None:
    ours, theirs = parsed(suffix, body), decode_body(suffix, body)
    assert theirs is not None
    refusal = (theirs.error.code, theirs.error.reason) if isinstance(theirs, InvalidEvent) else None
    assert (ours.refusal, ours.room, ours.operation) == (refusal, theirs.room_id, theirs.operation)
    if ours.requester is not None or isinstance(theirs, InvalidEvent):
        assert ours.requester == theirs.requester


def agree_on(row: Row) -> None:
    agree(row.suffix, row.body)


def test_oracle_and_worker_agree_on_a_body_that_is_not_an_object() -> None:
    check_each(NO_OBJECT, agree_on)


def test_oracle_and_worker_agree_on_a_field_of_a_wrong_type() -> None:
    check_each(WRONG_SHAPES, agree_on)


def test_oracle_and_worker_agree_on_what_is_not_a_token() -> None:
    check_each(not_token_rows(NOT_TOKENS.values()), agree_on)


@settings(max_examples=1_000, deadline=None)
@given(commands)
def test_oracle_and_worker_agree_on_events_of_the_model_tests(command: Any) -> None:
    agree(command.suffix, orjson.dumps(command.body))


@settings(max_examples=1_000, deadline=None)
@given(st.sampled_from(sorted(BODIES)), st.sampled_from(FIELDS), ANYTHING)
def test_oracle_and_worker_agree_on_anything_in_any_field(suffix: str, name: str, value: Any) -> None:
    agree(suffix, orjson.dumps(BODIES[suffix] | {name: value}))


def test_oracle_ignores_event_with_an_unknown_operation() -> None:
    assert parse(Event(1, STREAM_MS, f"chat.room.canonical.{SITE}.rename", b"{}")) is None
