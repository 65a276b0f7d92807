"""`room-worker deadletters`: the subjects it replays to, and stored headers."""

from base64 import b64encode

import pytest
from nats.js.api import RawStreamMsg

from worker.cli.deadletters.stream import headers_of, is_event_subject


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
def test_only_valid_event_subjects_of_the_site_are_replayed_to(subject: str, ok: bool) -> None:
    assert is_event_subject("s", subject) is ok


def test_stored_headers_are_decoded_as_utf_8() -> None:
    block = "NATS/1.0\r\nRoom-Worker-Subject: chat.room.canonical.s.müller.create\r\nX: a: b\r\n\r\n"
    raw = RawStreamMsg(hdrs=b64encode(block.encode()))
    assert headers_of(raw) == {"Room-Worker-Subject": "chat.room.canonical.s.müller.create", "X": "a: b"}
    assert headers_of(RawStreamMsg()) == {}
