"""Classifies messages by their subject and adds them to a recording."""

import re
import time
from collections.abc import Mapping

from tests.verification.oracle.recording import Message, MessageKind, Recording

_KINDS = [
    (MessageKind.KEY, re.compile(r"chat\.user\.(.+)\.event\.room\.key")),
    (MessageKind.ACCOUNT_NOTICE, re.compile(r"chat\.user\.(.+)\.event\.subscription\.update")),
    (MessageKind.ROOM_NOTICE, re.compile(r"chat\.room\.(.+)\.event\.member")),
    (MessageKind.RESULT, re.compile(r"chat\.user\.(.+)\.response\.[^.]+")),
]
PROBED = "room-worker-probe"
"""The account to which a worker publishes nothing, to find out what it may publish."""

_IN_STREAMS = ("chat.room.canonical.", "chat.room.deadletter.")


def classify(subject: str) -> tuple[MessageKind, str]:
    """Return the kind of a message, and the account or room that its subject names."""
    for kind, pattern in _KINDS:
        if found := pattern.fullmatch(subject):
            return kind, found[1]
    return MessageKind.OTHER, subject


def is_in_stream(subject: str) -> bool:
    """Return True if a message is in a stream, which is read in the end."""
    return subject.startswith(_IN_STREAMS)


def record(
    recording: Recording, listener: int, subject: str, data: bytes, headers: Mapping[str, str] | None, at_ms: int
) -> Message | None:
    """Add a message to a recording; return it if it is no key and its kind is recorded."""
    kind, to = classify(subject)
    if to == PROBED or kind not in recording.kinds:
        return None
    arrival = recording.arrive(listener, at_ms)
    if kind is MessageKind.KEY:
        recording.key_messages.add(to, data, arrival, recording.known_keys)
        return None
    message = Message(kind, to, data, (headers or {}).get("X-Request-ID"), arrival)
    recording.messages.append(message)
    return message


def now_ms() -> int:
    """Return the time (epoch milliseconds)."""
    return time.time_ns() // 1_000_000
