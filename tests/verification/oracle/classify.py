"""The ledger: sorts what an ear hears into a recording."""

import re
import time
from collections.abc import Mapping

from tests.verification.oracle.recording import Heard, Kind, Recording

_KINDS = [
    (Kind.KEY, re.compile(r"chat\.user\.(.+)\.event\.room\.key")),
    (Kind.UPDATE, re.compile(r"chat\.user\.(.+)\.event\.subscription\.update")),
    (Kind.ROOM, re.compile(r"chat\.room\.(.+)\.event\.member")),
    (Kind.RESULT, re.compile(r"chat\.user\.(.+)\.response\.[^.]+")),
]
_IN_STREAMS = ("chat.room.canonical.", "chat.room.deadletter.")


def sort(subject: str) -> tuple[Kind, str]:
    """Return what a message is by its subject, and the account or room that the subject names."""
    for kind, pattern in _KINDS:
        if found := pattern.fullmatch(subject):
            return kind, found[1]
    return Kind.OTHER, subject


def is_in_stream(subject: str) -> bool:
    """Tell whether a message is in a stream, from which it is read in the end."""
    return subject.startswith(_IN_STREAMS)


def note(
    recording: Recording, ear: int, subject: str, data: bytes, headers: Mapping[str, str] | None, at_ms: int
) -> Heard | None:
    """Write a message down; return it if it is a notice or a result."""
    kind, to = sort(subject)
    if kind not in recording.kinds:
        return None
    arrival = recording.arrive(ear, at_ms)
    if kind is Kind.KEY:
        recording.keys.add(to, data, arrival, recording.secrets)
        return None
    heard = Heard(kind, to, data, (headers or {}).get("X-Request-ID"), arrival)
    recording.heard.append(heard)
    return heard


def now_ms() -> int:
    """Return the time (epoch milliseconds)."""
    return time.time_ns() // 1_000_000
