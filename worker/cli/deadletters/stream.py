"""The stream of dead letters: reading them, and publishing their events again. (docs/contract.md, section 4)"""

from base64 import b64decode
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import uuid4

from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from roomkeys import subjects
from roomkeys.tokens import is_token
from worker.broker.connection import Broker
from worker.cli.terminal.process import CommandFailed
from worker.cli.terminal.producer import publish_body
from worker.pipeline.deliver import REQUEST_ID
from worker.pipeline.letters.publisher import TRUNCATED

_VERSION_LINE: Final = b"NATS/1.0"
_NO_MESSAGE: Final = 10_037
"""JetStream's error code when the stream exists but has no message with the sequence."""


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A dead letter: its sequence in the dead-letter stream, its headers, and the body of the event."""

    sequence: int
    time: datetime | None
    headers: dict[str, str]
    body: bytes = field(repr=False)

    def header(self, name: str) -> str:
        """Return the header `Room-Worker-{name}` of docs/contract.md, section 4; empty if it is missing."""
        return self.headers.get(f"Room-Worker-{name}", "")


async def sequences(broker: Broker, site: str) -> range:
    """Return the sequences of the stream at the time of the call, oldest first; some may have been deleted."""
    state = (await broker.jetstream.stream_info(subjects.dead_letter_stream(site))).state
    return range(max(state.first_seq, 1), state.last_seq + 1)


async def read(broker: Broker, site: str, sequence: int) -> StoredLetter | None:
    """Return the dead letter with this sequence, or None if there is none."""
    try:
        raw = await broker.jetstream.get_msg(subjects.dead_letter_stream(site), sequence)
    except NotFoundError as error:
        if error.err_code == _NO_MESSAGE:
            return None
        raise
    return StoredLetter(sequence, raw.time, headers_of(raw), raw.data or b"")


def headers_of(raw: RawStreamMsg) -> dict[str, str]:
    """Return the headers of a stored message, decoded as UTF-8; nats-py does not decode them so."""
    lines = b64decode(raw.hdrs or b"").split(b"\r\n")
    pairs = (line.partition(b":") for line in lines if line and not line.startswith(_VERSION_LINE))
    return {name.decode(errors="replace"): value.strip().decode(errors="replace") for name, _, value in pairs}


async def replay(broker: Broker, site: str, letter: StoredLetter) -> int:
    """Publish the event of a dead letter as a new message; return its stream sequence.

    Raises `CommandFailed` if the body was truncated, the subject is not one of this site's events, or the event is
    not stored.
    """
    if TRUNCATED in letter.headers:
        raise CommandFailed("its body was truncated when it was stored, so the event is incomplete")
    subject = letter.header("Subject")
    if not is_event_subject(site, subject):
        raise CommandFailed(f"its subject is not below {subjects.event_subject(site, '')}")
    headers = {"Nats-Msg-Id": str(uuid4())}
    if REQUEST_ID in letter.headers:
        headers[REQUEST_ID] = letter.headers[REQUEST_ID]
    return await publish_body(broker, site, subject, letter.body, headers)


def is_event_subject(site: str, subject: str) -> bool:
    """Tell whether the subject belongs to the events of the site and is valid for a publish."""
    prefix = subjects.event_subject(site, "")
    return subject.startswith(prefix) and all(map(is_token, subject.removeprefix(prefix).split(".")))
