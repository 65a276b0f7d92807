"""The connection to NATS: framed bytes, small messages, and the barrier that confirms both.

A publish is confirmed by nothing but a round trip that was sent after it on the same connection, and a
client that was disconnected in between has lost bytes that it had already handed to the socket. So a barrier
is: remember how often the connection broke, publish, ping after it, and then require that it is as often.
(pitfalls.md, items 1 to 3)
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import nats.errors
from nats.js import JetStreamContext

from roomkeys.errors import TransientError
from worker.broker.cancellation import cancel_and_wait
from worker.broker.client import SteadyClient
from worker.broker.credentials import credentials
from worker.settings import Settings
from worker.telemetry import metrics
from worker.telemetry.logs import logger, server_of, where

CONFIRM_TIMEOUT: Final = 10.0
"""Seconds until a barrier without an answer counts as a broken connection."""

_HEADER_OVERHEAD: Final = 16
"""Bytes of `NATS/1.0` and the line ends around the headers, rounded up."""

_NO_SUBJECT: Final = re.compile(r"[\x00-\x20\x7f]")
_LINE_END: Final = re.compile(r"[\r\n]")

_PENDING_BYTES: Final = 8 * 1024 * 1024

log = logger("broker")


class Broker:
    """One connection, kept for ever: it reconnects by itself, and `closed` is set if it gives up.

    `breaks` counts how often it broke, `stalls` how often the socket took nothing for `CONFIRM_TIMEOUT`.
    """

    def __init__(self, client: SteadyClient) -> None:
        self.client = client
        self.jetstream: JetStreamContext = client.jetstream(timeout=5)
        self.closed = asyncio.Event()
        self.breaks = 0
        self.stalls = 0
        self.on_break: set[Callable[[], None]] = set()
        self._connected = asyncio.Event()
        client.on_connection = self._broke

    @property
    def connected(self) -> bool:
        """Tell whether the connection is up now."""
        return bool(self.client.is_connected)

    @property
    def max_payload(self) -> int:
        """Return the most bytes of headers and body that the server takes in one message."""
        return int(self.client.max_payload)

    async def until_connected(self) -> None:
        """Wait until the connection is up."""
        await self._connected.wait()

    async def write(self, framed: bytes) -> None:
        """Hand framed protocol bytes to the socket; `TransientError` while there is no connection."""
        if not self.connected:
            raise TransientError("the broker is away")
        stalls = self.stalls
        await self.client.write(framed)
        _give_way()
        if self.stalls != stalls:
            raise TransientError("the broker takes nothing any more")

    async def publish(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> bool:
        """Publish one message; False and a log line if the server would cut the connection for its size."""
        if self.rejects(subject, body, headers):
            return False
        try:
            await self.client.publish(subject, body, headers=dict(headers) if headers else None)
        except (nats.errors.Error, OSError) as error:
            raise TransientError(where(error)) from None
        _give_way()
        return True

    def rejects(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> bool:
        """Tell, and say in the log, whether a message must not be written.

        The server would cut the connection for its size, or take a part of it for a line of the protocol.
        """
        if _NO_SUBJECT.search(subject) or any(_LINE_END.search(value) for value in (headers or {}).values()):
            metrics.REFUSED.inc()
            log.error("message that would forge protocol lines")
            return True
        if self.fits(body, headers):
            return False
        metrics.OVERSIZED.inc()
        log.error("message larger than the server takes", subject=subject, bytes=len(body))
        return True

    def fits(self, body: bytes, headers: Mapping[str, str] | None = None) -> bool:
        """Tell whether the server takes headers and body together. (pitfalls.md, item 12)"""
        return len(body) <= self.room_for_body(headers)

    def room_for_body(self, headers: Mapping[str, str] | None = None) -> int:
        """Return how many bytes of body fit a message beside the headers."""
        taken = sum(len(name.encode()) + len(value.encode()) + 4 for name, value in (headers or {}).items())
        return max(self.max_payload - _HEADER_OVERHEAD - taken, 0)

    async def confirm(self, mark: int) -> bool:
        """Tell whether everything published since `breaks` was `mark` has been taken by the broker."""
        if self.breaks != mark or not self.connected:
            return False
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[bool] = loop.create_future()
        broken: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not broken.done():
                broken.set_result(None)

        self.on_break.add(wake)
        sending = asyncio.ensure_future(self.client.ping(answered))
        try:
            either: set[asyncio.Future[Any]] = {answered, broken}
            await asyncio.wait(either, timeout=CONFIRM_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
            return answered.done() and self.connected and self.breaks == mark
        finally:
            self.on_break.discard(wake)
            answered.cancel()
            await cancel_and_wait(sending)

    async def close(self) -> None:
        """Close the connection; what was not confirmed may be lost."""
        try:
            await self.client.close()
        except OSError as error:  # the client writes to a socket that is gone (pitfalls.md, item 9)
            log.debug("closing a broken connection", error=where(error))

    async def on_connected(self) -> None:
        """Note that the connection is up."""
        self._connected.set()

    async def on_disconnected(self) -> None:
        """Note that the connection broke: barriers in flight fail."""
        metrics.DISCONNECTS.inc()
        self._connected.clear()
        self._broke()

    async def on_closed(self) -> None:
        """Note that the client will not reconnect; the process has to end."""
        self._connected.clear()
        self.closed.set()
        self._broke()

    def _broke(self) -> None:
        self.breaks += 1
        for wake in list(self.on_break):
            wake()


def _give_way() -> None:
    """End here what was cancelled: nats-py swallows a cancellation that meets it in a flush."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def connect(settings: Settings, name: str, on_close: Callable[[], None] = lambda: None) -> Broker:
    """Connect; a server that cannot be reached is retried for ever, with a log line each time.

    `on_close` is called when the client gives up for good.
    """
    broker = Broker(SteadyClient())

    async def failed(error: Exception) -> None:
        # What waits for the socket says nothing: many who send at once are many bytes, and all of them move.
        broker.stalls += isinstance(error, nats.errors.FlushTimeoutError)
        metrics.BROKER_ERRORS.labels(type(error).__name__).inc()
        log.warning("broker", error=_complaint(error), servers=[server_of(url) for url in settings.nats_url])

    async def down() -> None:
        await broker.on_disconnected()
        if not broker.client.is_closed:
            log.warning("broker connection lost")

    async def up() -> None:
        await broker.on_connected()
        log.info("broker connection is back")

    async def closed() -> None:
        await broker.on_closed()
        on_close()

    await broker.client.connect(
        servers=settings.nats_url,
        name=name,
        error_cb=failed,
        disconnected_cb=down,
        reconnected_cb=up,
        closed_cb=closed,
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
        connect_timeout=5,
        ping_interval=10,
        max_outstanding_pings=2,
        pending_size=_PENDING_BYTES,
        flush_timeout=CONFIRM_TIMEOUT,
        **credentials(settings),
    )
    await broker.on_connected()
    return broker


def _complaint(error: Exception) -> str:
    """Describe a client error: the broker's own words, which name subjects and rights but no payload."""
    return f"{type(error).__name__}: {error}" if isinstance(error, nats.errors.Error | OSError) else where(error)
