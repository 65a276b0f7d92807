"""Dead letters as they lie in their stream: read, and sent once more. (contract.md, section 4)"""

from base64 import b64decode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import uuid4

from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from roomkeys import subjects
from roomkeys.tokens import is_token
from worker.broker.connection import Broker
from worker.broker.producer import publish_body
from worker.pipeline.deliver import REQUEST_ID, TRUNCATED

_VERSION_LINE: Final = b"NATS/1.0"
_NO_MESSAGE: Final = 10_037
"""JetStream's code for a sequence without a message; the stream is there."""


class Refused(Exception):
    """A dead letter that cannot be sent once more; the message says why."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter: its sequence in the dead letters' stream, its headers, and the event's body."""

    sequence: int
    time: datetime | None
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def code(self) -> str:
        """Return the contract's error code."""
        return self.headers.get("Room-Worker-Code", "")

    @property
    def reason(self) -> str:
        """Return why the event could not succeed, as one word."""
        return self.headers.get("Room-Worker-Reason", "")

    @property
    def subject(self) -> str:
        """Return the subject that the event was published on."""
        return self.headers.get("Room-Worker-Subject", "")

    @property
    def event_sequence(self) -> str:
        """Return the event's sequence in the events' stream."""
        return self.headers.get("Room-Worker-Sequence", "")

    @property
    def is_truncated(self) -> bool:
        """Tell whether only a part of the body was kept."""
        return TRUNCATED in self.headers


async def stored(broker: Broker, site: str, *, newest_first: bool) -> AsyncIterator[DeadLetter]:
    """Yield the letters that the stream holds now, one at a time."""
    state = (await broker.jetstream.stream_info(subjects.dead_letter_stream(site))).state
    sequences = range(max(state.first_seq, 1), state.last_seq + 1)
    for sequence in reversed(sequences) if newest_first else sequences:
        letter = await read(broker, site, sequence)
        if letter is not None:
            yield letter


async def read(broker: Broker, site: str, sequence: int) -> DeadLetter | None:
    """Return the letter with this sequence; None where there is none."""
    try:
        raw = await broker.jetstream.get_msg(subjects.dead_letter_stream(site), sequence)
    except NotFoundError as error:
        if error.err_code == _NO_MESSAGE:
            return None
        raise
    return DeadLetter(sequence, raw.time, headers_of(raw), raw.data or b"")


def headers_of(raw: RawStreamMsg) -> dict[str, str]:
    """Read a stored message's headers as UTF-8, which nats-py's own reader does not."""
    lines = b64decode(raw.hdrs or b"").split(b"\r\n")
    pairs = (line.partition(b":") for line in lines if line and not line.startswith(_VERSION_LINE))
    return {name.decode(errors="replace"): value.strip().decode(errors="replace") for name, _, value in pairs}


async def replay(broker: Broker, site: str, letter: DeadLetter) -> int:
    """Publish the letter's event once more, as a new message; return its stream sequence.

    `Refused`: its body was cut, or its subject is not one of this site's events.
    """
    if letter.is_truncated:
        raise Refused("its body was cut when it was kept, so the event cannot be sent again")
    if not is_event_subject(site, letter.subject):
        raise Refused(f"it names no subject below {subjects.event_subject(site, '')}")
    headers = {"Nats-Msg-Id": str(uuid4())}
    if REQUEST_ID in letter.headers:
        headers[REQUEST_ID] = letter.headers[REQUEST_ID]
    return await publish_body(broker, site, letter.subject, letter.body, headers)


def is_event_subject(site: str, subject: str) -> bool:
    """Tell whether it is a subject of the site's events that can be published on."""
    prefix = subjects.event_subject(site, "")
    return subject.startswith(prefix) and all(map(is_token, subject.removeprefix(prefix).split(".")))
