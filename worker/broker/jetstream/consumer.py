"""The consumer of the events stream: all messages, in order, without gaps.

It pulls, so that the broker sends no more than was requested. A gap in the consumer's own sequence, silence, or a
broken connection ends it; its owner then starts another one after the last message that arrived. It acknowledges
nothing. (docs/design.md, "The feed"; docs/pitfalls.md, items 6 and 14)
"""

import asyncio
from contextlib import suppress
from typing import Final, Self

import nats.errors
import orjson
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from roomkeys.errors import TransientError
from roomkeys.events.event import StreamMessage
from roomkeys.tokens import is_request_id
from worker.broker.connection import Broker
from worker.broker.jetstream.pulls import Delivery, Pulls, create_consumer, delivery_of
from worker.broker.jetstream.stream import requests_to
from worker.limits import Limits
from worker.telemetry import metrics

_HEARTBEAT_S: Final = 3.0
_FIRST_HEARTBEAT_S: Final = 0.5
_SILENCE_S: Final = 2 * _HEARTBEAT_S + 1
_NANOSECOND: Final = 1_000_000_000
_MARKER_SUBJECT: Final = ""
"""The subject of a delete marker: no operation, so that it is skipped."""


class ConsumerFailed(TransientError):
    """The consumer missed a message or receives nothing: start another one."""


class Interrupted(ConsumerFailed):
    """Nothing is wrong with the stream: `interrupt` ended it, or the connection broke (`Broker.outage` reports it)."""


class Consumer:
    """Reads a stream's messages from a sequence on, in order, without gaps; an async context manager."""

    def __init__(self, broker: Broker, stream: str, start: int, limits: Limits) -> None:
        self._broker = broker
        self._stream = stream
        self._start = max(start, 1)
        self._limits = limits
        self._epoch = broker.connection_epoch
        self._arrived: list[StreamMessage] = []
        self._wake = asyncio.Event()
        self._is_heard = False
        self._is_interrupted = False
        self._broken: str | None = None
        self._delivered = 0
        self._last = self._start - 1
        self._pending = 0
        self._open_requests = 0
        self._consumer = ""
        self._inbox = ""
        self._pulls: Pulls
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> Self:
        self._broker.on_break.add(self._wake.set)
        try:
            with requests_to(self._broker, self._stream):
                self._inbox = self._broker.client.new_inbox()
                self._subscription = await self._broker.client.subscribe(self._inbox, cb=self._take)
                self._consumer, self._pending, self._pulls = await create_consumer(
                    self._broker, self._stream, self._start, self._limits
                )
                await self._ask()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._broker.on_break.discard(self._wake.set)
        with suppress(nats.errors.Error, OSError):  # the broker deletes an idle consumer by itself
            if self._subscription is not None:
                await self._subscription.unsubscribe()
            if self._consumer and self._broker.connected and self._epoch == self._broker.connection_epoch:
                await self._broker.jetstream.delete_consumer(self._stream, self._consumer)

    async def until_heard(self) -> None:
        """Wait until JetStream has sent a message or a heartbeat; `ConsumerFailed` if it sends nothing."""
        while not self._is_heard:
            await self._until_woken()

    async def read(self) -> list[StreamMessage]:
        """Return all messages that have arrived, at least one; `ConsumerFailed` if some may be missing."""
        while not self._arrived:
            await self._until_woken()
        messages, self._arrived = self._arrived, []
        if self._open_requests <= self._pulls.messages:
            await self._ask()
        return messages

    @property
    def end(self) -> int:
        """Return the sequence at which the stream ends, if no message after the last one that arrived was deleted."""
        return self._last + self._pending

    def interrupt(self) -> None:
        """Let `read` raise `Interrupted`, after it has returned what has arrived."""
        self._is_interrupted = True
        self._wake.set()

    async def _until_woken(self) -> None:
        if self._is_interrupted or self._broker.connection_epoch != self._epoch or not self._broker.connected:
            raise Interrupted
        if self._broken is not None:
            raise ConsumerFailed(self._broken)
        self._wake.clear()
        try:
            async with asyncio.timeout(_SILENCE_S):
                await self._wake.wait()
        except TimeoutError:
            self._broken = f"no heartbeat from JetStream for {_SILENCE_S:g} s"

    async def _ask(self) -> None:
        pulls = self._pulls
        request = {
            "batch": pulls.batch,
            "max_bytes": pulls.max_bytes,
            "expires": int(pulls.expires_s * _NANOSECOND),
            "idle_heartbeat": int((_HEARTBEAT_S if self._is_heard else _FIRST_HEARTBEAT_S) * _NANOSECOND),
        }
        self._open_requests += pulls.messages
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}"
        with requests_to(self._broker, self._stream):
            for _ in range(pulls.requests):
                await self._broker.client.publish(subject, orjson.dumps(request), reply=self._inbox)

    async def _take(self, message: Msg) -> None:
        headers = message.headers or {}
        if (delivery := delivery_of(message.reply, self._consumer)) is not None:
            self._take_message(message, delivery, headers)
        elif "Status" in headers:
            await self._take_status(headers["Status"], headers)
        else:
            metrics.BROKER_ERRORS.labels("StrayMessage").inc()
            return
        self._wake.set()

    async def _take_status(self, status: str, headers: dict[str, str]) -> None:
        """Handle a status message: a heartbeat, or the end of a pull request with what it did not deliver."""
        left, description = headers.get("Nats-Pending-Messages", ""), headers.get("Description", "")
        if status == "100":
            self._is_heard = True
        elif left.isdecimal() and len(left) < len(str(_NANOSECOND)):
            self._is_heard = True
            self._open_requests -= int(left)
            if int(left) == self._pulls.batch and "MaxBytes" in description:
                self._pulls = self._pulls.of_one_message()
            if not self._arrived and self._open_requests <= self._pulls.messages:
                await self._ask()  # while messages wait, `read` asks for more
        else:
            self._broken = f"pull ended with status {status} {description}".strip()

    def _take_message(self, message: Msg, delivery: Delivery, headers: dict[str, str]) -> None:
        if delivery.number != self._delivered + 1:
            self._broken = f"gap in the consumer sequence after {self._delivered}"
        if self._broken is not None:
            return
        self._is_heard = True
        self._delivered, self._last, self._pending = delivery.number, delivery.sequence, delivery.pending
        self._open_requests -= 1
        subject, request_id = message.subject, None
        for name, value in headers.items():
            match name.lower():
                case "x-request-id":
                    request_id = value if is_request_id(value) else None
                case "nats-marker-reason":
                    subject = _MARKER_SUBJECT
        self._arrived.append(StreamMessage(delivery.sequence, delivery.time_ns, subject, message.data, request_id))
