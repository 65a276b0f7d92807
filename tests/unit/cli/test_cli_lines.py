"""What the producer, `tail` and `deadletters` make of what they are given, without servers."""

from base64 import b64encode

import orjson
import pytest
from nats.js.api import RawStreamMsg

from roomkeys.client.keyring import HeldKey
from roomkeys.events.decode import decode
from roomkeys.events.event import Add, Create, Remove, Rotate, StreamMessage
from roomkeys.keys import RoomKey
from roomkeys.subjects import event_subject
from worker.broker import producer
from worker.broker.producer import Request
from worker.cli.deadletters.stream import headers_of, is_event_subject
from worker.cli.tail import key_line, update_line


def event(request: Request) -> object:
    """Decode a request as the worker does."""
    body = orjson.dumps({**request.body, "timestamp": 1})
    origin = StreamMessage(1, 0, event_subject("s", request.suffix), body, request.id)
    return decode(origin, orjson.loads(body))


def test_what_the_producer_builds_is_what_the_worker_reads() -> None:
    created = event(producer.create("r1", "alice", name="general", users=["bob"], orgs=["eng"]))
    added = event(producer.add("r1", "alice", users=["dave"], history="none"))
    removed = event(producer.remove("r1", "alice", users=["bob"]))
    org_removed = event(producer.remove("r1", "alice", org="eng"))
    rotated = event(producer.rotate("r1", "alice", reason="leaked"))
    assert isinstance(created, Create)
    assert (created.kind, created.name, created.accounts, created.orgs) == (
        "channel",
        "general",
        ("bob",),
        ("eng",),
    )
    assert isinstance(added, Add)
    assert (added.accounts, added.share_history) == (("dave",), False)
    assert isinstance(removed, Remove)
    assert (removed.accounts, removed.org) == (("bob",), None)
    assert isinstance(org_removed, Remove)
    assert org_removed.org == "eng"
    assert isinstance(rotated, Rotate)
    assert rotated.requester == "alice"


def test_a_room_of_two_without_a_name_is_a_dm() -> None:
    created = event(producer.create("r1", "alice", users=["bob"]))
    assert isinstance(created, Create)
    assert created.kind == "dm"


def test_every_request_has_an_id_of_its_own_unless_one_is_given() -> None:
    given = "00000000-0000-4000-8000-000000000001"
    assert producer.rotate("r1", "alice", request_id=given).id == given
    assert producer.rotate("r1", "alice").id != producer.rotate("r1", "alice").id


def test_a_key_is_shown_by_its_fingerprint_alone() -> None:
    key = RoomKey.generate(3)
    line = key_line(HeldKey("r1", key))
    assert (line["type"], line["roomId"], line["version"], len(line["fingerprint"])) == ("key", "r1", 3, 8)
    shown = str(line)
    assert b64encode(key.secret).decode() not in shown
    assert key.secret.hex()[:8] not in shown
    assert key_line(HeldKey("r1", RoomKey.generate(3)))["fingerprint"] != line["fingerprint"]


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'{"action":"added","subscription":[]}'])
def test_what_is_no_update_is_said_to_be_none(data: bytes) -> None:
    assert update_line(data)["type"] == "unreadable"


@pytest.mark.parametrize(
    ("subject", "ok"),
    [
        ("chat.room.canonical.s.create", True),
        ("chat.room.canonical.s.r1.member.remove", True),
        ("chat.room.canonical.other.create", False),
        ("chat.room.canonical.s.", False),
        ("chat.room.canonical.s.>", False),
        ("chat.room.canonical.s.r 1.create", False),
        ("chat.user.alice.event.room.key", False),
        ("", False),
    ],
)
def test_only_a_subject_of_the_sites_events_is_replayed_to(subject: str, ok: bool) -> None:
    assert is_event_subject("s", subject) is ok


def test_stored_headers_are_read_as_utf_8() -> None:
    block = "NATS/1.0\r\nRoom-Worker-Subject: chat.room.canonical.s.müller.create\r\nX: a: b\r\n\r\n"
    raw = RawStreamMsg(hdrs=b64encode(block.encode()))
    assert headers_of(raw) == {"Room-Worker-Subject": "chat.room.canonical.s.müller.create", "X": "a: b"}
    assert headers_of(RawStreamMsg()) == {}
