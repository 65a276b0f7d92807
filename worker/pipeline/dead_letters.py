"""Dead letters: what a partition owes the dead-letter stream, sent beside the loop.

Each letter has a separate document, written in the transaction of its batch. So it holds up neither its batch nor the
entries of its room. The sender publishes letters in order, and deletes each one once the stream has acknowledged it.
What the stream refuses stays owed, and is tried again with growing pauses. (docs/design.md, "Dead letters")
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final

import nats.errors
from nats.js.api import PubAck
from nats.js.errors import APIError, NoStreamResponseError

from roomkeys.backoff import Backoff
from roomkeys.errors import TransientError
from roomkeys.events.decode import parse, room_of
from roomkeys.subjects import dead_letter_stream, dead_letter_subject, events_stream, operation_of
from store.database import Database
from store.leases.lease import Lease
from store.writes import letters as stored
from store.writes.letters import OwedLetter
from worker.broker.cancellation import cancel_and_wait
from worker.broker.connection import Broker, BrokerUnavailable
from worker.broker.errors import describe
from worker.broker.jetstream.stream import StreamMissing, inspect
from worker.limits import Limits
from worker.pipeline.deliver import REQUEST_ID
from worker.telemetry import metrics
from worker.telemetry.logs import logger, where
from worker.telemetry.outage import Outage

TRUNCATED: Final = "Room-Worker-Truncated"
_AT_ONCE: Final = 32
_ANSWER_S: Final = 5.0
_CLOSE_S: Final = 2.0
_TOO_LARGE: Final = 10_054
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

log = logger("dead_letters")


class Refused(TransientError):
    """The dead-letter stream does not take letters now; the text has the broker's own words."""

    cause = "dead_letter"


class TooLarge(Refused):
    """The stream does not take this letter, even when its body is cut. It takes others."""


@dataclass(slots=True)
class LetterContext:
    """What the senders of a replica share. `undelivered` has the number of refused letters by partition."""

    broker: Broker
    database: Database
    site: str
    limits: Limits
    max_msg_size: int = -1
    undelivered: dict[int, int] = field(default_factory=dict)
    outage: Outage = field(init=False)

    def __post_init__(self) -> None:
        self.outage = Outage("dead-letter stream", log)

    def report(self, partition: int, number: int, cause: str = "") -> None:
        """Show how many letters of a partition the stream has refused, and why."""
        self.undelivered[partition] = number
        total = sum(self.undelivered.values())
        metrics.UNDELIVERED_LETTERS.set(total)
        if cause:
            metrics.INTERRUPTIONS.labels(Refused.cause).inc()
            self.outage.failed(cause, undelivered=total)
        elif not total:
            self.outage.ended()

    def forget(self, partition: int) -> None:
        """Leave a partition, and what it owes, to its next owner."""
        self.undelivered.pop(partition, None)
        metrics.UNDELIVERED_LETTERS.set(sum(self.undelivered.values()))


class DeadLetters:
    """The sender of one partition, under one lease."""

    def __init__(self, context: LetterContext, lease: Lease) -> None:
        self._context = context
        self._lease = lease
        self._fresh: list[OwedLetter] = []
        self._reads_outbox = True
        self._missed = False
        self._retry_at: float | None = None
        self._is_sending = False
        self._is_closing = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Send what former leases owe, and then what is added."""
        self._task = asyncio.create_task(self._run())

    def add(self, letters: Sequence[OwedLetter]) -> None:
        """Send letters that have just been written; beyond a bound they are read from the outbox, in their turn."""
        if not letters:
            return
        if self._reads_outbox or len(self._fresh) >= self._context.limits.outbox_page:
            self._reads_outbox = self._missed = True
        else:
            self._fresh += letters
        self._wake.set()

    async def close(self) -> None:
        """End; what is being sent has a moment to be acknowledged. The next owner sends the rest."""
        self._is_closing = True
        self._wake.set()
        if self._task is not None:
            if self._is_sending:
                await asyncio.wait({self._task}, timeout=_CLOSE_S)
            await cancel_and_wait(self._task)
        self._context.forget(self._lease.partition)

    async def _run(self) -> None:
        backoff = Backoff(0.5, self._context.limits.denied_retry_s)
        while not self._is_closing:
            try:
                skipped = await self._send_some()
            except TransientError as error:
                await self._on_refusal(str(error))
                await asyncio.sleep(backoff.next())
                continue
            except Exception as error:  # noqa: BLE001 - letters must not end because of one of them
                await self._on_refusal(where(error))
                await asyncio.sleep(backoff.next())
                continue
            if skipped:
                self._retry_at = monotonic() + backoff.next()
            elif self._retry_at is None:
                backoff.reset()
                self._context.report(self._lease.partition, 0)
            await self._wait()

    async def _wait(self) -> None:
        """Wait until there are letters to send, or some to try again."""
        while not (self._fresh or self._reads_outbox or self._is_closing):
            self._wake.clear()
            left = None if self._retry_at is None else max(self._retry_at - monotonic(), 0)
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()
            if self._retry_at is not None and monotonic() >= self._retry_at:
                self._reads_outbox, self._retry_at = True, None

    async def _send_some(self) -> bool:
        """Send the letters in memory, or those in the outbox; True: some are too large for the stream."""
        self._is_sending = True
        try:
            if self._fresh and not self._reads_outbox:
                letters, self._fresh = self._fresh, []
                skipped = await self._send(letters)
            else:
                self._fresh.clear()
                skipped = await self._send_outbox()
            if skipped:
                await self._show(f"{skipped[0]}: even when cut")
            return bool(skipped)
        finally:
            self._is_sending = False

    async def _send_outbox(self) -> list[TooLarge]:
        context, after, skipped = self._context, "", list[TooLarge]()
        while True:
            self._missed = False
            page = await stored.owed_letters(context.database, self._lease, after, context.limits.outbox_page)
            if not page and not self._missed:
                self._reads_outbox = False
                return skipped
            if page and not after:
                await self._look_at_stream()
            skipped += await self._send(page)
            after = page[-1].id if page else after

    async def _send(self, letters: Sequence[OwedLetter]) -> list[TooLarge]:
        """Publish letters in order, and delete what was taken; return the errors of those that are too large."""
        skipped: list[TooLarge] = []
        self._context.broker.last_denials.pop("dead_letter", None)
        for start in range(0, len(letters), _AT_ONCE):
            some = letters[start : start + _AT_ONCE]
            outcomes = await asyncio.gather(*map(self._publish, some), return_exceptions=True)
            taken = [letter.id for letter, outcome in zip(some, outcomes, strict=True) if outcome is None]
            await stored.delete_letters(self._context.database, taken)
            for outcome in outcomes:
                if isinstance(outcome, TooLarge):
                    skipped += [outcome]
                elif outcome is not None:
                    raise outcome
        return skipped

    async def _publish(self, letter: OwedLetter) -> None:
        """Publish one letter; raise `Refused` unless the stream has acknowledged it."""
        id_ = f"{events_stream(self._context.site)}:{letter.sequence}"
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
        if TRUNCATED in headers and self._context.max_msg_size >= 0:
            await self._look_at_stream()  # perhaps it takes more by now
            headers, body = self._message(letter, id_)
        try:
            return await self._request(headers, body), body
        except TooLarge:
            size = self._context.max_msg_size
            await self._look_at_stream()
            if self._context.max_msg_size == size:
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
        broker, most = self._context.broker, self._context.max_msg_size
        less = max(broker.max_payload - most, 0) if most >= 0 else 0
        return max(broker.room_for_body(headers) - less, 0)

    async def _request(self, headers: dict[str, str], body: bytes) -> PubAck:
        jetstream, subject = self._context.broker.jetstream, dead_letter_subject(self._context.site)
        try:
            return await jetstream.publish(subject, body, headers=headers, timeout=_ANSWER_S)
        except NoStreamResponseError:
            raise Refused(f"no stream takes {subject}") from None
        except APIError as error:
            raise (TooLarge if error.err_code == _TOO_LARGE else Refused)(describe(error)) from None
        except (nats.errors.Error, OSError) as error:
            denial = self._context.broker.last_denials.get("dead_letter")
            if denial is None:
                await self._look_at_stream()
            raise Refused(describe(error) if denial is None else denial.text) from None

    async def _look_at_stream(self) -> None:
        """Read what the stream takes; raise `Refused` if it takes no letters, or would never acknowledge one."""
        name = dead_letter_stream(self._context.site)
        try:
            config = (await inspect(self._context.broker, name)).config
        except StreamMissing as error:
            raise Refused(str(error)) from None
        except BrokerUnavailable:
            return  # perhaps it may not be read; a publish says more
        size = config.max_msg_size
        self._context.max_msg_size = -1 if size is None else size
        if config.no_ack:
            raise Refused(f"stream {name} acknowledges no message (no_ack)")

    async def _is_stored(self, letter: OwedLetter, body: bytes, sequence: int) -> bool:
        """Tell whether the message that the stream already has under this id is this letter."""
        try:
            message = await self._context.broker.jetstream.get_msg(dead_letter_stream(self._context.site), sequence)
        except (nats.errors.Error, APIError, OSError):
            return False
        if message.time is None:
            return message.data == body
        stored_ns = (message.time - _EPOCH) // timedelta(microseconds=1) * 1_000
        return message.data == body and stored_ns >= letter.created_ns

    async def _on_refusal(self, cause: str) -> None:
        self._fresh.clear()
        self._reads_outbox = True
        await self._show(cause)

    async def _show(self, cause: str) -> None:
        number = 1
        with suppress(TransientError):
            number = await stored.count_letters(self._context.database, [self._lease.id])
        self._context.report(self._lease.partition, number, cause)


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
