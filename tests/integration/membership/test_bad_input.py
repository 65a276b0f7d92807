"""Contract, section 4: whatever comes in, it gets its dead letter and its answer, and the worker goes on."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import orjson
import pytest

from tests.harness.site import Received, Rig
from worker.pipeline import writer
from worker.telemetry import metrics

SHAPE = ("bad_request", "invalid_event")
TOKEN = ("bad_request", "invalid_account")
ROOM_TOKEN = ("bad_request", "invalid_room")
NO_USER = ("not_found", "user_not_found")
NO_ROOM = ("not_found", "room_not_found")
NO_CHANNEL = ("bad_request", "non_channel_operation")
FORGED = "a\r\nPUB chat.user.eve.event.room.key 2\r\nhi"
NO_TOKENS = ["", " ", "a b", "x.y", "*", ">", "a*", "a>", "a\tb", "a\n", "\x00", "\x7f", "\u00a0", "\u2028", FORGED]
MEBIBYTE = 1_048_576
ROTATE = {"roomId": "r1", "requester": "alice"}


@dataclass(frozen=True)
class Case:
    """An event that can never succeed, and what it has to come to."""

    suffix: str
    body: Any
    fault: tuple[str, str] = SHAPE
    answered: bool = True


@pytest.fixture
async def town(site_rig: Rig) -> AsyncIterator[Rig]:
    """Run a worker with a channel r1 of alice and bob and a dm d1."""
    await site_rig.users("alice", "bob", "carol")
    await listen_to_the_worker_only(site_rig)
    async with site_rig.worker():
        body = {"name": "general", "users": ["bob"], "requesterAccount": "alice"}
        await site_rig.ask("create", {**body, "roomId": "r1"})
        await site_rig.ask("create", {**body, "roomId": "d1", "name": ""})
        yield site_rig


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less long for what, where it goes wrong, never comes."""
    monkeypatch.setattr("tests.harness.site.PATIENCE", 8.0)


@pytest.fixture
def short_retries(site_rig: Rig) -> None:
    """Retry an event that fails alone for two seconds, not for half a minute."""
    site_rig.limit(set_aside_pause_s=0.05)


async def listen_to_the_worker_only(rig: Rig) -> None:
    """Hear nothing of what producers publish: the rig's client stops reading at a subject that is not UTF-8."""
    for subscription in list(rig.nc._subs.values()):
        if subscription.subject == "chat.>":
            await subscription.unsubscribe()
    for subject in ("chat.user.>", "chat.room.*.event.>", "chat.room.deadletter.>"):
        await rig.nc.subscribe(subject, cb=rig.hear)
    await rig.nc.flush()


async def publish(rig: Rig, suffix: str, body: Any, request_id: str | None) -> int:
    """Publish and return the sequence."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    headers = {"X-Request-ID": request_id} if request_id else None
    subject = f"chat.room.canonical.{rig.site}.{suffix}"
    return (await rig.nc.jetstream().publish(subject, data, headers=headers)).seq


async def publish_raw(rig: Rig, line: bytes) -> None:
    """Write protocol bytes to a separate socket and wait until the server has read them."""
    url = urlsplit(rig.settings.nats_url[0])
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n' + line + b"PING\r\n")
        while (answer := await reader.readline()) != b"PONG\r\n":
            assert not answer.startswith(b"-ERR"), answer
            assert answer, "the server closed the connection"
    finally:
        writer.close()
        await writer.wait_closed()


def pub(subject: bytes, body: bytes) -> bytes:
    return b"PUB %s %d\r\n%s\r\n" % (subject, len(body), body)


def hpub(subject: bytes, headers: bytes, body: bytes) -> bytes:
    return b"HPUB %s %d %d\r\n%s%s\r\n" % (subject, len(headers), len(headers) + len(body), headers, body)


def letters(rig: Rig) -> list[Received]:
    return [item for item in rig.received if item.subject == f"chat.room.deadletter.{rig.site}"]


async def until_letters(rig: Rig, number: int, what: str) -> None:
    """Wait until so many dead letters have come."""
    await rig.until(lambda: len(letters(rig)) >= number, what)


async def until_keys(rig: Rig, account: str, number: int, what: str) -> None:
    """Wait until an account has been sent so many keys."""
    await rig.until(lambda: len(rig.keys(account)) >= number, what)


async def letter_of(rig: Rig, sequence: int) -> Received:
    def look() -> list[Received]:
        return [item for item in letters(rig) if item.headers.get("Room-Worker-Sequence") == str(sequence)]

    return (await rig.until(look, f"the dead letter of message {sequence}"))[0]


async def assert_healthy(rig: Rig) -> None:
    answer = await rig.ask("key.rotate", ROTATE)
    assert answer["status"] == "ok", answer


async def assert_refused(rig: Rig, *cases: Case) -> None:
    """Publish the cases and compare what each came to with what it should have come to."""
    before = await rig.room("r1"), await rig.members("r1"), await rig.members("d1")
    wanted, seen = {}, {}
    for case in cases:
        request_id = str(uuid4())
        sequence = await publish(rig, case.suffix, case.body, request_id)
        letter = await letter_of(rig, sequence)
        name = f"{case.suffix} {str(case.body)[:120]}"
        data = case.body if isinstance(case.body, bytes) else orjson.dumps(case.body)
        wanted[name] = {
            "Nats-Msg-Id": f"ROOMS_{rig.site}:{sequence}",
            "Room-Worker-Code": case.fault[0],
            "Room-Worker-Reason": case.fault[1],
            "Room-Worker-Subject": f"chat.room.canonical.{rig.site}.{case.suffix}",
            "Room-Worker-Sequence": str(sequence),
            "body": data,
            "answer": ("error", *case.fault) if case.answered else None,
        }
        headers = {header: value for header, value in letter.headers.items() if header != "X-Request-ID"}
        answer = await answer_to(rig, request_id, wait=case.answered)
        seen[name] = {**headers, "body": letter.raw, "answer": answer}
    await assert_answers_nothing_else(rig, cases)
    assert seen == wanted
    assert (await rig.room("r1"), await rig.members("r1"), await rig.members("d1")) == before
    await assert_healthy(rig)


async def answer_to(rig: Rig, request_id: str, *, wait: bool) -> tuple[str, str, str] | None:
    if wait:
        answer = await rig.result(request_id)
        assert list(answer)[-4:] == ["error", "code", "reason", "timestamp"], answer
        return answer["status"], answer["code"], answer["reason"]
    found = [item.subject for item in rig.received if item.subject.endswith(request_id)]
    return ("answered", found[0], "") if found else None


async def assert_answers_nothing_else(rig: Rig, cases: tuple[Case, ...]) -> None:
    """Count the error results once a healthy event, which comes after all the bad ones, has its own."""
    await assert_healthy_dm(rig)
    errors = [item for item in rig.received if ".response." in item.subject and item.body["status"] == "error"]
    assert len(errors) == sum(case.answered for case in cases), [item.subject for item in errors]


async def assert_healthy_dm(rig: Rig) -> None:
    body = {"roomId": "d1", "users": ["bob"], "requesterAccount": "alice"}
    assert (await rig.ask("create", body))["status"] == "ok"


async def test_what_is_not_a_json_object_is_a_dead_letter(town: Rig) -> None:
    nested = b"[" * 5_000 + b"]" * 5_000
    good = orjson.dumps(ROTATE)
    await assert_refused(
        town,
        *(
            Case("key.rotate", body, SHAPE, answered=False)
            for body in (
                b"",
                b"not json",
                b"{",
                b"\xff\xfe\x00",
                b'{"roomId":"r1","requester":"al\xffice"}',
                good.decode().encode("utf-16"),
                b"[]",
                b"[" + good + b"]",
                b"null",
                b"true",
                b"17",
                b'"r1"',
                nested,
                b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
            )
        ),
        *(
            Case("key.rotate", body, SHAPE)
            for body in (
                good[:-1],
                good + b"}",
                b'{"roomId":"r1","requester":"alice","x":NaN}',
                b"\xef\xbb\xbf" + good,
                b'{"roomId":"r1","requester":"alice","x":' + nested + b"}",
            )
        ),
    )


@pytest.mark.parametrize("odd", [b'"\\ud83d"', b"1e400", b"9" * 5_000], ids=["half an emoji", "1e400", "5,000 digits"])
async def test_ignored_field_may_hold_any_json(town: Rig, odd: bytes) -> None:
    body = orjson.dumps(ROTATE)[:-1] + b',"x":' + odd + b"}"
    assert (await town.ask("key.rotate", body))["status"] == "ok"


async def test_wrong_types_and_missing_fields_are_dead_letters(town: Rig) -> None:
    creating: dict[str, Any] = {"roomId": "r2", "name": "x", "users": ["bob"], "requesterAccount": "alice"}
    adding: dict[str, Any] = {"roomId": "r1", "users": ["carol"], "requesterAccount": "alice"}
    removing: dict[str, Any] = {"roomId": "r1", "requester": "alice"}
    wrong_create: list[dict[str, Any]] = [
        {"name": 5},
        {"name": ["x"]},
        {"users": "bob"},
        {"users": [5]},
        {"users": [None]},
    ]
    wrong_create += [{"users": {"bob": 1}}, {"orgs": "s1"}, {"orgs": [5]}, {"resolvedUsers": "bob"}]
    wrong_create += [{"resolvedOrgs": [None]}, {"timestamp": "now"}, {"timestamp": 1.5}, {"timestamp": True}]
    wrong_add: list[dict[str, Any]] = [
        {"users": "carol"},
        {"history": "none"},
        {"history": {"mode": 5}},
        {"history": []},
        {"orgs": {}},
    ]
    wrong_remove: list[dict[str, Any]] = [
        {"account": 5},
        {"accounts": "bob"},
        {"accounts": [["bob"]]},
        {"account": {"a": 1}},
    ]
    await assert_refused(
        town,
        *(Case("create", {**creating, **wrong}) for wrong in wrong_create),
        *(Case("create", {**creating, "roomId": wrong}) for wrong in (None, 5, ["r2"], {"id": "r2"}, True)),
        *(Case("member.add", {**adding, **wrong}) for wrong in wrong_add),
        *(Case("member.remove", {**removing, **wrong}) for wrong in wrong_remove),
        Case("member.remove", {**removing, "orgId": 5}),
        Case("member.remove", removing),
        Case("key.rotate", {"requester": "alice"}),
        Case("key.rotate", {"roomId": "r1"}, answered=False),
        Case("key.rotate", {"roomId": "r1", "requester": None}, answered=False),
        Case("key.rotate", {"roomId": "r1", "requester": 5}, answered=False),
        Case("create", {"roomId": "r2", "users": ["bob"]}, answered=False),
        Case("create", {}, answered=False),
    )


async def test_timestamps_out_of_range_are_dead_letters(town: Rig) -> None:
    out = (-1, -(2**63), 253_402_300_800_000, 2**53, 2**63, 2**64, 10**30, 1e308)
    bodies = [b'{"roomId":"r1","requester":"alice","timestamp":%s}' % str(value).encode() for value in out]
    await assert_refused(town, *(Case("key.rotate", body) for body in bodies))


async def test_the_last_millisecond_that_is_a_date_is_a_timestamp(town: Rig) -> None:
    body = {"roomId": "r1", "users": ["carol"], "requesterAccount": "alice", "timestamp": 253_402_300_799_999}
    answer = await town.ask("member.add", {**body, "history": {"mode": "none"}})
    assert answer["status"] == "ok", answer
    assert (await town.members("r1"))["carol"]["joinedAt"].year == 9999


async def test_what_is_no_token_is_a_dead_letter_and_reaches_no_subject(town: Rig) -> None:
    rooms = [Case("key.rotate", {"roomId": room_id, "requester": "alice"}, ROOM_TOKEN) for room_id in NO_TOKENS[1:]]
    accounts = [*NO_TOKENS, ".bot", "a b.bot", "x.y.bot"]
    add = {"roomId": "r1", "requesterAccount": "alice"}
    await assert_refused(
        town,
        *rooms,
        *(Case("member.add", {**add, "users": ["carol", account]}, TOKEN) for account in accounts),
        *(Case("create", {**add, "roomId": "r2", "name": "x", "users": [account]}, TOKEN) for account in accounts),
        *(Case("member.remove", {**ROTATE, "account": account}, TOKEN) for account in accounts[1:]),
        *(Case("member.remove", {**ROTATE, "accounts": [account]}, TOKEN) for account in accounts),
        *(Case("key.rotate", {"roomId": "r1", "requester": account}, TOKEN, answered=False) for account in accounts),
    )
    users = {item.subject.split(".")[2] for item in town.received if item.subject.startswith("chat.user.")}
    assert users == {"alice", "bob"}, "a subject was forged"


async def test_what_the_database_contradicts_is_a_dead_letter(town: Rig) -> None:
    add = {"roomId": "r1", "requesterAccount": "alice", "users": ["carol"]}
    create = {"roomId": "r2", "name": "x", "requesterAccount": "alice", "users": ["bob"]}
    dm = {"roomId": "d2", "requesterAccount": "alice"}
    await assert_refused(
        town,
        Case("member.add", {**add, "roomId": "nowhere"}, NO_ROOM),
        Case("member.remove", {**ROTATE, "roomId": "nowhere", "account": "bob"}, NO_ROOM),
        Case("member.remove", {**ROTATE, "roomId": "nowhere", "orgId": "s1"}, NO_ROOM),
        Case("key.rotate", {**ROTATE, "roomId": "nowhere"}, NO_ROOM),
        Case("member.add", {**add, "users": ["carol", "nobody"]}, NO_USER),
        Case("member.add", {**add, "requesterAccount": "nobody"}, NO_USER),
        Case("member.remove", {**ROTATE, "accounts": ["bob", "nobody"]}, NO_USER),
        Case("member.remove", {"roomId": "r1", "requester": "nobody", "account": "bob"}, NO_USER),
        Case("key.rotate", {"roomId": "r1", "requester": "nobody"}, NO_USER),
        Case("create", {**create, "users": ["bob", "nobody"]}, NO_USER),
        Case("create", {**create, "requesterAccount": "nobody"}, NO_USER),
        Case("member.add", {**add, "roomId": "d1"}, NO_CHANNEL),
        Case("member.remove", {**ROTATE, "roomId": "d1", "account": "bob"}, NO_CHANNEL),
        Case("key.rotate", {**ROTATE, "roomId": "d1"}, NO_CHANNEL),
        Case("create", {**create, "roomId": "d1"}, ("conflict", "room_exists")),
        Case("create", {**dm, "roomId": "r1", "users": ["bob"]}, ("conflict", "room_exists")),
        Case("create", {**dm, "users": ["alice"]}, ("bad_request", "self_dm")),
        Case("create", {**dm, "users": ["no.bot"]}, ("not_found", "bot_not_available")),
    )
    assert await town.db.rooms.count_documents({}) == 2


async def test_a_dead_letter_without_a_request_id_has_exactly_the_contracts_headers(town: Rig) -> None:
    letter = await letter_of(town, await publish(town, "key.rotate", {"roomId": 5, "requester": "alice"}, None))
    assert set(letter.headers) == {
        "Nats-Msg-Id",
        "Room-Worker-Code",
        "Room-Worker-Reason",
        "Room-Worker-Subject",
        "Room-Worker-Sequence",
    }
    await assert_healthy(town)
    info = await town.nc.jetstream().stream_info(f"ROOMS_DEADLETTER_{town.site}")
    assert info.state.messages == 1


async def test_error_texts_quote_nothing_of_the_payload_but_unknown_accounts(town: Rig) -> None:
    marker = "zxqv"
    bodies: list[dict[str, Any]] = [
        {"roomId": "r1", "requester": "alice", "timestamp": marker},
        {"roomId": f"{marker} x", "requester": "alice"},
        {"roomId": marker, "requester": "alice"},
        {"roomId": "r1", "requester": "alice", marker: {marker: marker}, "timestamp": -1},
    ]
    answers = [await town.ask("key.rotate", body) for body in bodies]
    unknown = await town.ask("member.add", {**ROTATE, "requesterAccount": "alice", "users": [marker]})
    assert [answer["status"] for answer in answers] == ["error"] * 4
    assert not [answer["error"] for answer in answers if marker in answer["error"]]
    assert unknown["error"] == f"account {marker} is not in users"


async def test_events_of_other_suffixes_are_skipped_and_counted(town: Rig) -> None:
    before, since = skipped(), len(town.received)
    for suffix in ("rename", "member.added", "key.rotated", "member.promote", "precreate", "r1.create.x"):
        await publish(town, suffix, ROTATE, str(uuid4()))
    await assert_healthy(town)
    assert skipped() - before == 6
    assert letters(town) == []
    assert [item.subject for item in town.received[since:]].count("chat.user.bob.event.room.key") == 1


def skipped() -> float:
    return metrics.REGISTRY.get_sample_value("room_worker_skipped_total") or 0.0


async def test_a_bad_event_of_a_mebibyte_is_cut_to_fit_its_dead_letter(town: Rig) -> None:
    body = b"[" + b"7," * (MEBIBYTE // 2 - 1) + b"]"
    cut = await letter_of(town, await publish(town, "member.add", body, None))
    assert cut.headers["Room-Worker-Truncated"] == "true"
    assert body.startswith(cut.raw)
    assert MEBIBYTE - 1_000 < len(cut.raw) < MEBIBYTE, len(cut.raw)
    smaller = body[: MEBIBYTE - 1_000]
    whole = await letter_of(town, await publish(town, "member.add", smaller, None))
    assert "Room-Worker-Truncated" not in whole.headers
    assert whole.raw == smaller
    await assert_healthy(town)


async def test_every_size_around_the_limit_gets_its_dead_letter(town: Rig) -> None:
    """The headers' own size decides; a byte too many would cut the worker's connection for good."""
    for less in (0, 1, 150, *range(180, 330, 7), 400):
        body = b"x" * (MEBIBYTE - less)
        letter = await letter_of(town, await publish(town, "member.add", body, None))
        assert len(letter.raw) == len(body) or letter.headers["Room-Worker-Truncated"] == "true", less
        town.received.clear()
    await assert_healthy(town)


async def test_an_add_of_a_mebibyte_that_names_20_000_users_is_good(town: Rig) -> None:
    accounts = [f"{number:05d}-{'n' * 43}" for number in range(20_000)]
    await town.users(*accounts)
    request_id = str(uuid4())
    body = orjson.dumps({"roomId": "r1", "requesterAccount": "alice", "users": accounts})
    assert MEBIBYTE - 60_000 < len(body) < MEBIBYTE - 100, len(body)
    await publish(town, "member.add", body, request_id)
    answer = await town.result(request_id)
    assert answer["status"] == "ok", answer
    assert (await town.room("r1"))["userCount"] == 20_002
    keys = {item.subject.split(".")[2] for item in town.received if item.subject.endswith(".event.room.key")}
    assert keys >= set(accounts), f"{len(set(accounts) - keys)} joiners got no key"
    listed = [account for body in town.of("chat.room.r1.event.member") for account in body["accounts"]]
    assert sorted(listed) == accounts
    await assert_healthy(town)


async def test_an_add_of_many_users_to_a_room_with_a_long_name_is_good(town: Rig) -> None:
    """What 8,000 joiners of such a room are owed is more than one MongoDB document holds (16 MiB)."""
    accounts = [f"n{number:05d}" for number in range(8_000)]
    await town.users(*accounts)
    body = {"roomId": "r2", "name": "x" * 1_024, "users": ["bob"], "requesterAccount": "alice"}
    assert (await town.ask("create", body))["status"] == "ok"
    answer = await town.ask("member.add", {"roomId": "r2", "requesterAccount": "alice", "users": accounts})
    assert answer["status"] == "ok", answer
    assert (await town.room("r2"))["userCount"] == 8_002
    await assert_healthy(town)


MALFORMED_HEADERS = [
    b"NATS/1.0\r\n\r\n",
    b"NATS/1.0\r\nno colon here\r\n\r\n",
    b"NATS/1.0\r\n: no name\r\n\r\n",
    b"NATS/1.0\r\nX-Request-ID\r\n\r\n",
    b"NATS/1.0\r\nX-Request-ID: \xff\xfe\r\n\r\n",
    b"NATS/1.0\r\nX-Request-ID: *\r\n\r\n",
    b"NATS/1.0\r\nX-Request-ID: 6f1d1c9e-0000-0000-0000-00000000000>\r\n\r\n",
    b"NATS/1.0\r\n\xff\xfe: \xfd\r\n\r\n",
    b"NATS/1.0\r\nTraceparent: \x00\x01\x80\r\n\r\n",
    b"NATS/1.0 503\r\n\r\n",
    b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\n\r\n",
    b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 5\r\n\r\n",
    b"NATS/1.0 409 Consumer Deleted\r\n\r\n",
    b"NATS/1.0 \xff\xff\xff\r\n\r\n",
    b"NATS/1.0\r\nStatus: 404\r\n\r\n",
    b"NATS/1.0\r\nStatus: 408\r\nNats-Pending-Messages: 99999\r\n\r\n",
]


async def test_malformed_headers_keep_no_event_from_its_effect(town: Rig) -> None:
    subject = f"chat.room.canonical.{town.site}.key.rotate".encode()
    body = orjson.dumps(ROTATE)
    for at, headers in enumerate(MALFORMED_HEADERS, start=1):
        await publish_raw(town, hpub(subject, headers, body))
        await until_keys(town, "bob", 1 + at, f"the key of the event with {headers!r}")
    assert [version for version, _ in town.keys("bob")] == list(range(len(MALFORMED_HEADERS) + 1))
    await assert_healthy(town)


async def test_malformed_headers_keep_no_bad_event_from_its_dead_letter(town: Rig) -> None:
    subject = f"chat.room.canonical.{town.site}.key.rotate".encode()
    for at, headers in enumerate(MALFORMED_HEADERS, start=1):
        await publish_raw(town, hpub(subject, headers, b"not json"))
        await until_letters(town, at, f"the dead letter of the event with {headers!r}")
    assert {letter.raw for letter in letters(town)} == {b"not json"}
    await assert_healthy(town)


async def test_a_request_id_beside_a_header_that_is_not_utf8_is_still_answered(town: Rig) -> None:
    subject = f"chat.room.canonical.{town.site}.key.rotate".encode()
    request_id = str(uuid4())
    headers = b"NATS/1.0\r\nX-Request-ID: %s\r\nX-Trace: \xff\xfe\r\n\r\n" % request_id.encode()
    await publish_raw(town, hpub(subject, headers, orjson.dumps(ROTATE)))
    assert (await town.result(request_id))["status"] == "ok"


async def test_a_subject_that_is_not_utf8_has_its_effect_or_its_dead_letter(town: Rig) -> None:
    subject = b"chat.room.canonical.%s.\xff.member.add" % town.site.encode()
    good = {"roomId": "r1", "requesterAccount": "alice", "users": ["carol"]}
    await publish_raw(town, pub(subject, orjson.dumps(good)))
    await town.until(lambda: town.keys("carol"), "carol's key")
    await publish_raw(town, pub(subject, b"not json"))
    await town.until(lambda: letters(town), "the dead letter")
    (letter,) = letters(town)
    assert (letter.raw, letter.headers["Room-Worker-Reason"]) == (b"not json", "invalid_event")
    assert letter.headers["Room-Worker-Subject"].endswith(".member.add")
    await publish_raw(town, pub(b"chat.room.canonical.%s.\xff.\xfe" % town.site.encode(), b"somebody else's"))
    await assert_healthy(town)


@pytest.mark.usefixtures("impatient")
async def test_white_space_that_the_broker_takes_for_a_letter_does_not_stop_the_worker(town: Rig) -> None:
    """nats-server splits its lines at blanks and tabs only, nats-py at all of ASCII's white space."""
    for suffix in (b"rename", b"key.rotate"):
        for odd in (b"\x0b", b"\x0c"):  # a vertical tab and a form feed
            subject = b"chat.room.canonical.%s.x%sy.%s" % (town.site.encode(), odd, suffix)
            await publish_raw(town, pub(subject, orjson.dumps(ROTATE)))
    await assert_healthy(town)
    assert [version for version, _ in town.keys("bob")][-1] == 3


async def test_odd_characters_in_a_subject_keep_no_event_from_its_dead_letter(town: Rig) -> None:
    prefix = b"chat.room.canonical.%s." % town.site.encode()
    odd = [b"\x00", b"\x01", b"\x1c", b"\x7f", b"\x85", b"\xc2\xa0", b"\xe2\x80\xa8", b":", b"$JS", b"n" * 3_800]
    for at, middle in enumerate(odd, start=1):
        await publish_raw(town, pub(prefix + middle + b".key.rotate", b"not json"))
        await until_letters(town, at, f"the dead letter of {middle[:10]!r}")
    await assert_healthy(town)


@pytest.mark.parametrize("kind", ["headers", "subject", "skipped"])
async def test_a_worker_that_starts_after_a_malformed_message_goes_on(site_rig: Rig, kind: str) -> None:
    await site_rig.users("alice", "bob")
    await listen_to_the_worker_only(site_rig)
    prefix, body = f"chat.room.canonical.{site_rig.site}.".encode(), orjson.dumps(ROTATE)
    headers = b"NATS/1.0\r\n\xff\xfe: \xfd\r\nX: \x80\r\n\r\n"
    raw = {
        "headers": hpub(prefix + b"key.rotate", headers, body),
        "subject": pub(prefix + b"\xff.key.rotate", body),
        "skipped": hpub(prefix + b"\xff.rename", b"NATS/1.0 \xff\r\n\r\n", b"\xff"),
    }[kind]
    async with site_rig.worker():
        room = {"roomId": "r1", "name": "general", "users": ["bob"], "requesterAccount": "alice"}
        await site_rig.ask("create", room)
        await publish_raw(site_rig, raw)
        await site_rig.until(lambda: kind == "skipped" or len(site_rig.keys("bob")) == 2, "the rotation")
    async with site_rig.worker():
        await assert_healthy(site_rig)


def fails(step: str) -> Any:
    """Fail at once where the step is no coroutine, else after a first wait, as a query would."""
    return 1 / 0 if step == "decide" else fails_later()


async def fails_later() -> None:
    await asyncio.sleep(0)
    raise ZeroDivisionError


@pytest.mark.usefixtures("impatient", "short_retries")
@pytest.mark.parametrize("step", ["load_batch", "decide", "apply"])
async def test_an_event_that_fails_alone_for_no_known_cause_is_given_up(
    town: Rig, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Design, "The feed": retried one event at a time; the one that fails alone is dead-lettered as `internal`."""
    real = getattr(writer, step)

    def failing(*args: Any, **kwargs: Any) -> Any:
        cursed = "cursed" in repr(args) + repr(kwargs.get("changes"))
        return fails(step) if cursed else real(*args, **kwargs)

    monkeypatch.setattr(writer, step, failing)
    body = {"roomId": "cursed", "name": "x", "users": ["bob"], "requesterAccount": "alice"}
    answer = await town.ask("create", body)
    assert (answer["code"], answer["reason"]) == ("internal", "internal"), answer
    assert [letter.headers["Room-Worker-Code"] for letter in letters(town)] == ["internal"]
    await assert_healthy(town)


async def test_200_poison_events_do_not_hold_up_the_healthy_ones_between_them(town: Rig) -> None:
    poison: list[tuple[str, Any]] = [
        ("key.rotate", b"not json"),
        ("key.rotate", {"roomId": "r1", "requester": "nobody"}),
        ("member.add", {"roomId": "nowhere", "users": ["bob"], "requesterAccount": "alice"}),
        ("create", {"roomId": "a b", "name": "x", "users": [], "requesterAccount": "alice"}),
        ("member.remove", {"roomId": "r1", "requester": "alice", "timestamp": "soon", "account": "bob"}),
    ]
    healthy = []
    for at in range(200):
        suffix, body = poison[at % len(poison)]
        await publish(town, suffix, body, str(uuid4()))
        if at % 8 == 0:
            healthy.append(await town.publish("key.rotate", ROTATE))
    answers = [await town.result(request_id) for request_id in healthy]
    assert [answer["status"] for answer in answers] == ["ok"] * 25
    await town.until(lambda: len(letters(town)) == 200, "200 dead letters")
    assert (await town.room("r1"))["encKey"]["ver"] == 25
    assert (await town.nc.jetstream().stream_info(f"ROOMS_DEADLETTER_{town.site}")).state.messages == 200


def refused() -> float:
    return metrics.REGISTRY.get_sample_value("room_worker_refused_recipients_total") or 0.0


async def test_accounts_in_the_database_that_are_no_tokens_reach_no_wire(town: Rig) -> None:
    bad = ["a b", "x.y", "*", ">", "", "a\tb", "n" * 300, FORGED]
    await town.users(*bad, sectId="s1")
    await town.users("sam", sectId="s1")
    before = refused()
    added = await town.ask("member.add", {"roomId": "r1", "requesterAccount": "alice", "orgs": ["s1"]})
    assert added["status"] == "ok", added
    counted_for_joiners = refused() - before
    rotated = await town.ask("key.rotate", ROTATE)
    counted_for_members = refused() - before - counted_for_joiners
    removed = await town.ask("member.remove", {**ROTATE, "orgId": "s1"})
    assert [rotated["status"], removed["status"]] == ["ok", "ok"], (rotated, removed)
    users = {item.subject.split(".")[2] for item in town.received if item.subject.startswith("chat.user.")}
    assert users == {"alice", "bob", "sam"}, "a subject was forged"
    assert {len(item.subject.split(".")) for item in town.received if ".event.room.key" in item.subject} == {6}
    assert [version for version, _ in town.keys("sam")] == [0, 1]
    assert [version for version, _ in town.keys("bob")] == [0, 1, 2]
    assert (counted_for_joiners, counted_for_members) == (len(bad), len(bad))
    assert letters(town) == []


async def test_memberships_whose_account_is_no_text_keep_nobody_from_the_key(town: Rig) -> None:
    strange: list[Any] = [None, 5, 5.5, True, b"bytes", {"a": 1}]
    documents = [
        {"_id": f"s{at}", "roomId": "r1", "u": {"_id": f"x{at}", "account": account, "isBot": False}}
        for at, account in enumerate(strange)
    ]
    await town.db.subscriptions.insert_many(documents)
    before = refused()
    rotated = await town.ask("key.rotate", ROTATE)
    assert rotated["status"] == "ok", rotated
    assert [version for version, _ in town.keys("bob")] == [0, 1]
    assert town.keys("alice") == town.keys("bob")
    assert refused() - before == len(strange)


@pytest.mark.usefixtures("impatient")
async def test_a_membership_without_a_user_does_not_stop_the_first_org(town: Rig) -> None:
    await town.users("sam", sectId="s1")
    await town.db.subscriptions.insert_one({"_id": "s0", "roomId": "r1"})
    answer = await town.ask("member.add", {"roomId": "r1", "requesterAccount": "alice", "orgs": ["s1"]})
    assert answer["status"] == "ok", answer
    await assert_healthy(town)
