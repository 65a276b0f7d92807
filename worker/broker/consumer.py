"""The consumer of the events stream: all messages, in order, without gaps.

It pulls, so that the broker sends no more than was requested. A gap in the consumer's own sequence, silence, or a
broken connection ends it; its owner then starts another one after the last message that arrived. It acknowledges
nothing. (docs/design.md, "The feed"; docs/pitfalls.md, items 6 and 14)
"""

import asyncio
from typing import Final, Self

import nats.errors
import orjson
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError

from roomkeys.errors import TransientError
from roomkeys.events.event import StreamMessage
from roomkeys.tokens import is_request_id
from worker.broker.connection import Broker
from worker.limits import Limits
from worker.telemetry.logs import logger, where

_EXPIRES: Final = 30.0
_HEARTBEAT: Final = 3.0
_SILENCE_S: Final = 2 * _HEARTBEAT + 1
_NANOSECOND: Final = 1_000_000_000
_ACK_FIELDS: Final = 9

log = logger("consumer")


class ConsumerFailed(TransientError):
    """The consumer missed a message or receives nothing: start another one."""


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
        self._broken: str | None = None
        self._delivered = 0
        self._open_requests = 0
        self._consumer = ""
        self._inbox = ""
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> Self:
        self._broker.on_break.add(self._wake.set)
        try:
            self._inbox = self._broker.client.new_inbox()
            config = ConsumerConfig(
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=self._start,
                ack_policy=AckPolicy.NONE,
                inactive_threshold=60,
                mem_storage=True,
                num_replicas=1,
            )
            info = await self._broker.jetstream.add_consumer(self._stream, config)
            self._consumer = info.name
            self._subscription = await self._broker.client.subscribe(self._inbox, cb=self._take)
            await self._ask()
        except BaseException as error:
            await self.__aexit__()
            if isinstance(error, nats.errors.Error | APIError | OSError):
                raise ConsumerFailed(where(error)) from None
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._broker.on_break.discard(self._wake.set)
        try:
            if self._subscription is not None:
                await self._subscription.unsubscribe()
            if self._consumer and self._broker.connected and self._epoch == self._broker.connection_epoch:
                await self._broker.jetstream.delete_consumer(self._stream, self._consumer)
        except (nats.errors.Error, APIError, OSError) as error:
            log.debug("consumer left to expire", error=where(error))

    async def read(self) -> list[StreamMessage]:
        """Return all messages that have arrived, at least one; `ConsumerFailed` if some may be missing."""
        while not self._arrived:
            if self._broker.connection_epoch != self._epoch or not self._broker.connected:
                self._broken = "disconnected"
            if self._broken is not None:
                raise ConsumerFailed(self._broken)
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), _SILENCE_S)
            except TimeoutError:
                self._broken = f"no heartbeat from JetStream for {_SILENCE_S:g} s"
        messages, self._arrived = self._arrived, []
        if self._open_requests <= self._limits.pull_messages:
            await self._ask()
        return messages

    async def _ask(self) -> None:
        request = {
            "batch": self._limits.pull_messages,
            "max_bytes": max(self._limits.pull_bytes, 2 * self._broker.max_payload),
            "expires": int(_EXPIRES * _NANOSECOND),
            "idle_heartbeat": int(_HEARTBEAT * _NANOSECOND),
        }
        self._open_requests += self._limits.pull_messages
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}"
        try:
            await self._broker.client.publish(subject, orjson.dumps(request), reply=self._inbox)
        except (nats.errors.Error, OSError) as error:
            raise ConsumerFailed(where(error)) from None

    async def _take(self, message: Msg) -> None:
        headers = message.headers or {}
        status = headers.get("Status")
        if status is not None and not message.reply.startswith("$JS.ACK."):
            await self._take_status(status, headers)
        else:
            self._take_message(message, headers)
        self._wake.set()

    async def _take_status(self, status: str, headers: dict[str, str]) -> None:
        """Handle a status message: a heartbeat, or the end of a pull request with what it did not deliver."""
        if status == "100":
            return
        left = headers.get("Nats-Pending-Messages", "")
        if left.isdecimal():
            self._open_requests -= int(left)
            if not self._arrived:
                await self._ask()  # while messages wait, `read` asks for more
        else:
            self._broken = f"pull ended with status {status} {headers.get('Description', '')}".strip()

    def _take_message(self, message: Msg, headers: dict[str, str]) -> None:
        fields = message.reply.split(".")
        # $JS.ACK.[domain.account.]stream.consumer.delivered.stream_seq.consumer_seq.time.pending[.random]
        at = 5 if len(fields) == _ACK_FIELDS else 7
        sequence, delivered, time_ns = int(fields[at]), int(fields[at + 1]), int(fields[at + 2])
        if delivered != self._delivered + 1:
            self._broken = f"gap in the consumer sequence after {self._delivered}"
        if self._broken is not None:
            return
        self._delivered = delivered
        self._open_requests -= 1
        given = next((value for name, value in headers.items() if name.lower() == "x-request-id"), None)
        request_id = given if is_request_id(given) else None
        self._arrived.append(StreamMessage(sequence, time_ns, message.subject, message.data, request_id))
