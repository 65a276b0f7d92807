"""Publishing one dead letter: its headers, how much of its body fits, and what the stream answers."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import nats.errors
from nats.js.api import PubAck
from nats.js.errors import APIError, NoStreamResponseError

from roomkeys.errors import TransientError
from roomkeys.events.decode import parse, room_of
from roomkeys.subjects import dead_letter_stream, dead_letter_subject, events_stream, operation_of
from store.writes.letters import OwedLetter
from worker.broker.connection import Broker, BrokerUnavailable
from worker.broker.errors import describe
from worker.broker.jetstream.stream import StreamMissing, inspect
from worker.pipeline.deliver import REQUEST_ID
from worker.telemetry import metrics
from worker.telemetry.logs import logger

TRUNCATED: Final = "Room-Worker-Truncated"
_ANSWER_S: Final = 5.0
_TOO_LARGE: Final = 10_054
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

log = logger("dead_letters")


class Refused(TransientError):
    """The dead-letter stream does not take letters now; the text has the broker's own words."""

    cause = "dead_letter"


class TooLarge(Refused):
    """The stream does not take this letter, even when its body is cut. It takes others."""


@dataclass(slots=True)
class LetterPublisher:
    """Publishes letters of a site. `max_msg_size` is that of the stream as last read; -1 means that it has none."""

    broker: Broker
    site: str
    max_msg_size: int = -1

    async def publish(self, letter: OwedLetter) -> None:
        """Publish one letter; raise `Refused` unless the stream has acknowledged it."""
        id_ = f"{events_stream(self.site)}:{letter.sequence}"
        ack, body = await self._publish_cut(letter, id_)
        if ack.duplicate and not await self._is_stored(letter, body, ack.seq):
            # An event of a stream that was deleted since had the same sequence.
            ack, _ = await self._publish_cut(letter, f"{id_}:{letter.created_ns}")
        if not ack.duplicate:
            metrics.DEAD_LETTERS.labels(letter.error.reason).inc()
            _report(letter, ack.seq)

    async def _publish_cut(self, letter: OwedLetter, id_: str) -> tuple[PubAck, bytes]:
        """Publish a letter under an id, as much of its body as the server and the stream take."""
        headers, body = self._message(letter, id_)
        if TRUNCATED in headers and self.max_msg_size >= 0:
            await self.look_at_stream()  # perhaps it takes more by now
            headers, body = self._message(letter, id_)
        try:
            return await self._request(headers, body), body
        except TooLarge:
            size = self.max_msg_size
            await self.look_at_stream()
            if self.max_msg_size == size:
                raise
        headers, body = self._message(letter, id_)
        return await self._request(headers, body), body

    def _message(self, letter: OwedLetter, id_: str) -> tuple[dict[str, str], bytes]:
        headers = {
            "Nats-Msg-Id": id_,
            "Room-Worker-Code": letter.error.code,
            "Room-Worker-Reason": letter.error.reason,
            "Room-Worker-Subject": letter.letter.subject,
            "Room-Worker-Sequence": str(letter.sequence),
        }
        if letter.request_id is not None:
            headers[REQUEST_ID] = letter.request_id
        body = letter.letter.body
        if letter.letter.truncated or len(body) > self._room_for_body(headers):
            headers[TRUNCATED] = "true"
        return headers, body[: self._room_for_body(headers)]

    def _room_for_body(self, headers: dict[str, str]) -> int:
        """Return how many bytes of body the server and the stream take beside the headers."""
        broker, most = self.broker, self.max_msg_size
        less = max(broker.max_payload - most, 0) if most >= 0 else 0
        return max(broker.room_for_body(headers) - less, 0)

    async def _request(self, headers: dict[str, str], body: bytes) -> PubAck:
        jetstream, subject = self.broker.jetstream, dead_letter_subject(self.site)
        try:
            return await jetstream.publish(subject, body, headers=headers, timeout=_ANSWER_S)
        except NoStreamResponseError:
            raise Refused(f"no stream takes {subject}") from None
        except APIError as error:
            raise (TooLarge if error.err_code == _TOO_LARGE else Refused)(describe(error)) from None
        except (nats.errors.Error, OSError) as error:
            denial = self.broker.last_denials.get("dead_letter")
            if denial is None:
                await self.look_at_stream()
            raise Refused(describe(error) if denial is None else denial.text) from None

    async def look_at_stream(self) -> None:
        """Read what the stream takes; raise `Refused` if it takes no letters, or would never acknowledge one."""
        name = dead_letter_stream(self.site)
        try:
            config = (await inspect(self.broker, name)).config
        except StreamMissing as error:
            raise Refused(str(error)) from None
        except BrokerUnavailable:
            return  # perhaps it may not be read; a publish says more
        size = config.max_msg_size
        self.max_msg_size = -1 if size is None else size
        if config.no_ack:
            raise Refused(f"stream {name} acknowledges no message (no_ack)")

    async def _is_stored(self, letter: OwedLetter, body: bytes, sequence: int) -> bool:
        """Tell whether the message that the stream already has under this id is this letter."""
        try:
            message = await self.broker.jetstream.get_msg(dead_letter_stream(self.site), sequence)
        except (nats.errors.Error, APIError, OSError):
            return False
        if message.time is None:
            return message.data == body
        stored_ns = (message.time - _EPOCH) // timedelta(microseconds=1) * 1_000
        return message.data == body and stored_ns >= letter.created_ns


def _report(letter: OwedLetter, sequence: int) -> None:
    """Log what was published as message `sequence` of the dead-letter stream, and how to see it."""
    operation = operation_of(letter.letter.subject)
    log.warning(
        "event became a dead letter",
        sequence=letter.sequence,
        operation=operation and operation.value,
        room=room_of(parse(letter.letter.body)),
        request_id=letter.request_id,
        code=letter.error.code,
        reason=letter.error.reason,
        see=f"room-worker deadletters show {sequence}",
    )
