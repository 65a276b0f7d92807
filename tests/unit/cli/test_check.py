"""`room-worker check`: what it concludes from a server's own description."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig, StreamSource

from worker.cli.check import result
from worker.cli.check.mongo import check_replica_set, connection_problem
from worker.cli.check.nats import connection_advice
from worker.cli.check.result import CheckResult, passed, within_limit
from worker.cli.check.streams import covers, stream_problems

EVENTS = "chat.room.canonical.s.>"
LETTERS = "chat.room.deadletter.s"


def problems(part: str, subject: str, **config: object) -> list[tuple[bool, str]]:
    """Return for each problem of a stream whether it is only a warning, and its text."""
    stream = StreamConfig(**{"name": "S", "subjects": [subject], **config})  # type: ignore[arg-type]
    return [(found.warning, found.text) for found in stream_problems(part, subject, stream)]


@pytest.mark.parametrize(
    ("hello", "ok", "text"),
    [
        ({"setName": "rs0", "isWritablePrimary": True, "me": "a:1"}, True, "rs0, primary a:1"),
        ({"msg": "isdbgrid", "isWritablePrimary": True}, True, "a sharded cluster"),
        ({"isWritablePrimary": True}, False, "--replSet rs0"),
        ({"setName": "rs0", "isWritablePrimary": False, "me": "a:1"}, False, "replicaSet="),
    ],
)
def test_replica_set_check_fails_without_transactions_or_without_a_primary(
    hello: dict[str, object], ok: bool, text: str
) -> None:
    result = check_replica_set(hello)
    assert (result.ok, text in result.text) == (ok, True)


@pytest.mark.parametrize(
    ("config", "warning", "text"),
    [
        ({"retention": RetentionPolicy.WORK_QUEUE}, False, "recreate it with retention limits"),
        ({"retention": RetentionPolicy.INTEREST}, False, "recreate it with retention limits"),
        ({"subjects": ["chat.room.canonical.s.create"]}, False, "add the subject chat.room.canonical.s.>"),
        ({"subjects": None}, False, "captures no subject"),
        ({"sealed": True}, False, "is sealed"),
        ({"no_ack": True}, True, "nats stream edit S --ack"),
        ({"max_msgs_per_subject": 1}, False, "nats stream edit S --max-msgs-per-subject=-1"),
        ({"max_age": 60}, True, "deletes events after 60 s"),
        ({"discard": DiscardPolicy.NEW, "max_msgs": 10}, True, "refuses messages while it is full"),
        ({"storage": StorageType.MEMORY}, True, "recreate it with storage file"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_an_unsuitable_events_stream_is_named_with_what_to_do(
    config: dict[str, object], text: str, *, warning: bool
) -> None:
    ((is_warning, found),) = problems("events", EVENTS, **config)
    assert (is_warning, text in found) == (warning, True), found


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"subjects": ["chat.room.>"]},
        {"subjects": ["other", "chat.*.canonical.s.>"]},
        {"subjects": None, "mirror": StreamSource("O")},
        {"subjects": None, "sources": [StreamSource("O")]},
        {"max_age": 86_400, "max_msgs": 10},
        {"discard": DiscardPolicy.NEW},
    ],
    ids=str,
)
def test_a_suitable_events_stream_has_no_problem(config: dict[str, object]) -> None:
    assert problems("events", EVENTS, **config) == []


def test_dead_letters_may_have_limits_but_must_be_acknowledged_and_kept() -> None:
    assert problems("dead letters", LETTERS, max_msgs_per_subject=9, retention=RetentionPolicy.WORK_QUEUE) == []
    for config in ({"no_ack": True}, {"retention": RetentionPolicy.INTEREST}):
        ((is_warning, _),) = problems("dead letters", LETTERS, **config)
        assert not is_warning


@pytest.mark.parametrize(
    ("pattern", "subject", "is_covered"),
    [
        (">", EVENTS, True),
        ("chat.>", EVENTS, True),
        ("chat.room.canonical.*.>", EVENTS, True),
        ("chat.room.canonical.s.>", EVENTS, True),
        ("chat.room.canonical.s.*", EVENTS, False),
        ("chat.room.canonical.other.>", EVENTS, False),
        ("chat.room.canonical.s.>.>", EVENTS, False),
        ("chat.room.*.s", LETTERS, True),
        ("chat.room.*", LETTERS, False),
    ],
)
def test_pattern_covers_all_of_a_subject(pattern: str, subject: str, *, is_covered: bool) -> None:
    assert covers(pattern, subject) is is_covered


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("db:27017: [Errno -2] Name or service not known", "cannot be resolved"),
        ("SSL handshake failed: db:27017: [SSL: CERTIFICATE_VERIFY_FAILED] self-signed", "tlsCAFile"),
        ("SSL handshake failed: db:27017: [SSL: WRONG_VERSION_NUMBER]", "remove tls=true"),
        ("db:27017: connection closed", "add tls=true"),
        ("db:27017: [Errno 111] Connection refused", "start the server"),
    ],
)
def test_each_kind_of_broken_connection_to_mongodb_has_its_advice(error: str, text: str) -> None:
    found = connection_problem("db:27017", error)
    assert text in found
    assert "Errno" not in found


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        ("NATS at nats://n:4222: 'Authorization Violation'", "NATS_CREDS_FILE"),
        ("NATS at nats://n:4222: [SSL: CERTIFICATE_VERIFY_FAILED]", "NATS_TLS_CA"),
        ("NATS at nats://n:4222: the name cannot be resolved", "correct NATS_URL"),
        ("NATS at nats://n:4222: connection refused", "start the server"),
    ],
)
def test_each_kind_of_broken_connection_to_nats_has_its_advice(failure: str, text: str) -> None:
    assert text in connection_advice(failure)


async def test_a_check_that_hangs_names_what_came_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hanging() -> AsyncIterator[CheckResult]:
        yield passed("nats", "connected")
        await asyncio.Event().wait()

    monkeypatch.setattr(result, "LIMIT_SECONDS", 0.01)
    last = (await within_limit("nats", hanging()))[-1]
    assert (last.ok, "after the check of nats: check that this is the address" in last.text) == (False, True)
