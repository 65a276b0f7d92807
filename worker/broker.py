"""The connection to NATS: framed bytes, small messages, and the barrier that confirms both.

A publish is confirmed by nothing but a round trip that was sent after it on the same connection, and a
client that was disconnected in between has lost bytes that it had already handed to the socket. So a barrier
is: remember the count of disconnects, publish, empty the client's buffer, ping, and then require that the
count is the same. (pitfalls.md, items 1 to 3)

This is the one file that touches nats-py's private parts; a contract test holds the order on the wire.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.protocol import parser

from roomkeys.errors import Passing
from worker import metrics
from worker.credentials import credentials
from worker.logs import logger, where
from worker.settings import Settings

CONFIRM_TIMEOUT: Final = 10.0
"""Seconds until a barrier without an answer counts as a broken connection."""

_HEADER_OVERHEAD: Final = 16
"""Bytes of `NATS/1.0` and the line ends around the headers, rounded up."""
_PENDING_BYTES: Final = 8 * 1024 * 1024

log = logger("broker")


def _let_letters_be_letters() -> None:
    """Let the client's parser separate by spaces and tabs only, as the protocol does.

    It takes every white space for a separator, and so breaks off at a subject with, say, a vertical tab, which
    the broker takes for a letter.
    """
    for name in ("MSG_RE", "HMSG_RE"):
        strict = getattr(parser, name).pattern.replace(rb"[^\s]", rb"[^ \t\r\n]").replace(rb"\s+", rb"[ \t]+")
        setattr(parser, name, re.compile(strict.replace(b"[^\\S\r\n]+", rb"[ \t]+")))


_let_letters_be_letters()


class _LenientClient(Client):
    """nats-py's client, which survives a message whose subject or headers are not UTF-8.

    The original stops reading for good while it still reports itself connected.
    """

    def _build_message(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> Msg:
        return self.msg_class(
            subject=subject.decode(errors="replace"),
            reply=reply.decode(errors="replace"),
            data=data,
            headers=headers,
            _client=self,
            _sid=sid,
        )

    async def _process_headers(self, headers: Any) -> Any:
        try:
            return await super()._process_headers(headers)
        except (UnicodeDecodeError, ValueError, IndexError):
            return None


class Broker:
    """One connection, kept for ever: it reconnects by itself, and `closed` is set if it gives up."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.jetstream: JetStreamContext = client.jetstream(timeout=5)
        self.closed = asyncio.Event()
        self.disconnects = 0
        self.on_disconnect: set[Callable[[], None]] = set()
        self._connected = asyncio.Event()

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
        """Hand framed protocol bytes to the socket; `Passing` while there is no connection."""
        if not self.connected:
            raise Passing("the broker is away")
        await self.client._send_command(framed)  # noqa: SLF001 - there is no public way (pitfalls.md, item 10)
        await self.client._flush_pending(force_flush=True)  # noqa: SLF001

    async def publish(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> bool:
        """Publish one message; False and a log line if the server would cut the connection for its size."""
        if not self.fits(body, headers):
            metrics.OVERSIZED.inc()
            log.error("message larger than the server takes", subject=subject, bytes=len(body))
            return False
        try:
            await self.client.publish(subject, body, headers=dict(headers) if headers else None)
        except (nats.errors.Error, OSError) as error:
            raise Passing(where(error)) from None
        return True

    def fits(self, body: bytes, headers: Mapping[str, str] | None = None) -> bool:
        """Tell whether the server takes headers and body together. (pitfalls.md, item 12)"""
        return len(body) <= self.room_for_body(headers)

    def room_for_body(self, headers: Mapping[str, str] | None = None) -> int:
        """Return how many bytes of body fit a message beside the headers."""
        taken = sum(len(name.encode()) + len(value.encode()) + 4 for name, value in (headers or {}).items())
        return max(self.max_payload - _HEADER_OVERHEAD - taken, 0)

    async def confirm(self, mark: int) -> bool:
        """Tell whether everything published since `disconnects` was `mark` has been taken by the broker."""
        lost = asyncio.Event()
        self.on_disconnect.add(lost.set)
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT):
                if self.disconnects != mark or not self.connected:
                    return False
                # What still waits in the client would be overtaken by the ping.
                await self.client._flush_pending(force_flush=True)  # noqa: SLF001
                answered = asyncio.ensure_future(self.client.rtt(timeout=int(CONFIRM_TIMEOUT)))
                broken = asyncio.ensure_future(lost.wait())
                await asyncio.wait({answered, broken}, return_when=asyncio.FIRST_COMPLETED)
                broken.cancel()
                answered.cancel()
                return not lost.is_set() and self.connected and self.disconnects == mark and _is_done(answered)
        except TimeoutError:
            return False
        finally:
            self.on_disconnect.discard(lost.set)

    async def close(self) -> None:
        """Close the connection; what was not confirmed may be lost."""
        try:
            await self.client.close()
        except OSError as error:  # the client writes to a socket that is gone (pitfalls.md, item 9)
            log.debug("closing a broken connection", error=where(error))

    async def came_up(self) -> None:
        """Note that the connection is up."""
        self._connected.set()

    async def went_down(self) -> None:
        """Note that the connection broke: barriers in flight fail."""
        self.disconnects += 1
        self._connected.clear()
        metrics.DISCONNECTS.inc()
        for wake in list(self.on_disconnect):
            wake()

    async def gave_up(self) -> None:
        """Note that the client will not reconnect; the process has to end."""
        self._connected.clear()
        self.closed.set()
        for wake in list(self.on_disconnect):
            wake()


def _is_done(answered: asyncio.Future[float]) -> bool:
    return answered.done() and not answered.cancelled() and answered.exception() is None


async def connect(settings: Settings, name: str, on_close: Callable[[], None] = lambda: None) -> Broker:
    """Connect; a server that cannot be reached is retried for ever, with a log line each time.

    `on_close` is called when the client gives up for good.
    """
    broker = Broker(_LenientClient())

    async def failed(error: Exception) -> None:
        metrics.BROKER_ERRORS.labels(type(error).__name__).inc()
        log.warning("broker", error=_complaint(error), servers=[_without_user(url) for url in settings.nats_url])

    async def down() -> None:
        await broker.went_down()
        if not broker.client.is_closed:
            log.warning("broker connection lost")

    async def up() -> None:
        await broker.came_up()
        log.info("broker connection is back")

    async def closed() -> None:
        await broker.gave_up()
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
    await broker.came_up()
    return broker


def _complaint(error: Exception) -> str:
    """Describe a client error: the broker's own words, which name subjects and rights but no payload."""
    return f"{type(error).__name__}: {error}" if isinstance(error, nats.errors.Error | OSError) else where(error)


def _without_user(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
