"""The connection to NATS: framed bytes, small messages, and the barrier that confirms both.

NATS acknowledges no core publish. Only a round trip that follows it on the same connection confirms it, because a
client that was disconnected in between has lost bytes that it had already given to the socket. So a barrier
notes the connection epoch, lets the caller publish, sends a ping, and requires the answer and the same epoch. At its
end it knows which keys the broker denied meanwhile. (docs/pitfalls.md, items 1 to 3 and 7)
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from secrets import token_hex
from typing import Final

import nats.errors
from nats.js import JetStreamContext

from roomkeys.errors import TransientError
from worker.broker.cancellation import cancel_and_wait, raise_if_cancelled
from worker.broker.credentials import credentials
from worker.broker.errors import describe
from worker.broker.nats_client import SteadyClient
from worker.broker.permissions.denials import USER_INFO, Confirmation, Denial, DeniedKeys, denial_in
from worker.limits import Limits
from worker.settings import Settings
from worker.telemetry import metrics
from worker.telemetry.logs import logger, server_of, where
from worker.telemetry.outage import Outage

_HEADER_OVERHEAD: Final = 16
"""Bytes of `NATS/1.0` and the line ends around the headers, rounded up."""

_NO_SUBJECT: Final = re.compile(r"[\x00-\x20\x7f]")
_LINE_END: Final = re.compile(r"[\r\n]")

INBOX_PREFIX: Final = "_INBOX.room-worker"
"""What the inboxes of all workers begin with: nobody else may name one of them as a reply address."""

_DISCONNECTED: Final = (ConnectionError, nats.errors.UnexpectedEOF, nats.errors.StaleConnectionError)
"""Errors that the client may report just before it notes that it is not connected."""

_BARRIER_EPOCH: Final[ContextVar[int | None]] = ContextVar("barrier_epoch", default=None)
"""The connection epoch in which the barrier of the current task began."""

log = logger("broker")


class BrokerUnavailable(TransientError):
    """The broker is away, or refuses: `Broker.outage` or `Feed.outage` reports it, and so nobody else has to."""


class Unconfirmed(TransientError):
    """The broker did not confirm what was published: all of it has to be published again."""


class Broker:
    """One connection for the life of the process: it reconnects by itself.

    `connection_epoch` increases whenever the connection breaks: equal epochs mean the same connection. `outage` says
    since when and why there is no connection. `last_denials` has the last denial of each kind, and `keys_denied` is the
    outage of rooms none of whose members the broker lets the worker send their key.
    """

    def __init__(
        self,
        client: SteadyClient,
        confirm_s: float,
        servers: Sequence[str] = (),
        on_close: Callable[[], None] = lambda: None,
        outage: Outage | None = None,
    ) -> None:
        self.client = client
        self.outage = outage or Outage("NATS", log)
        self._confirm_s = confirm_s
        self._servers = servers
        self._on_close = on_close
        self.jetstream: JetStreamContext = client.jetstream(timeout=5)
        self.connection_epoch = 0
        self._write_timeouts = 0
        self._last_words = "the connection was closed"
        self.on_break: set[Callable[[], object]] = set()
        self._connected = asyncio.Event()
        client.on_connection = self._start_epoch
        self._denied_keys = DeniedKeys()
        self._probed: dict[tuple[str, bool], bool] = {}
        self._one_probe = asyncio.Lock()
        self.last_denials: dict[str, Denial] = {}
        self.keys_denied = Outage("delivery of room keys", log)
        self.denies_all_keys = False
        self.may_ask_for_permissions = True
        client.on_denial = self._on_denial

    @property
    def connected(self) -> bool:
        """Tell whether the connection is up now."""
        return bool(self.client.is_connected)

    @property
    def is_closed(self) -> bool:
        """Tell whether the client has given up for good; it does not always call `closed_cb`."""
        return bool(self.client.is_closed)

    @property
    def max_payload(self) -> int:
        """Return the most bytes of headers and body that the server takes in one message."""
        return int(self.client.max_payload)

    def key_problem(self) -> str | None:
        """Return a text for people while the broker denies keys to everybody and rooms wait for that."""
        return self.keys_denied.problem() if self.denies_all_keys else None

    async def until_connected(self) -> None:
        """Wait until the connection is up."""
        await self._connected.wait()

    async def write(self, framed: bytes) -> None:
        """Hand framed protocol bytes to the socket; `TransientError` while there is no connection.

        Inside a barrier whose connection broke, raise `Unconfirmed`: on the next connection the bytes would arrive
        without the ones before them, for example a key without the notice that announces the membership.
        """
        if not self.connected:
            raise BrokerUnavailable("not connected to NATS")
        if _BARRIER_EPOCH.get() not in {None, self.connection_epoch}:
            raise Unconfirmed("the connection broke before the broker confirmed what was published")
        timeouts = self._write_timeouts
        await self.client.write(framed)
        raise_if_cancelled()
        if self._write_timeouts != timeouts:
            raise TransientError(f"the broker read nothing for {self._confirm_s:g} s")

    async def publish(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> bool:
        """Publish one message; return False, and log it, if the server would not accept it."""
        if self.rejects(subject, body, headers):
            return False
        try:
            await self.client.publish(subject, body, headers=dict(headers) if headers else None)
        except (nats.errors.Error, OSError) as error:
            raise TransientError(describe(error)) from None
        raise_if_cancelled()
        return True

    def rejects(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> bool:
        """Tell, and log, whether a message must not be written.

        The server would close the connection because of its size, or read a part of it as a line of the protocol.
        """
        if _NO_SUBJECT.search(subject) or any(_LINE_END.search(value) for value in (headers or {}).values()):
            metrics.REFUSED.inc()
            log.error("dropped a message: its subject or headers would forge protocol lines")
            return True
        if self.fits(body, headers):
            return False
        metrics.OVERSIZED.inc()
        log.error("dropped a message: larger than the server's max_payload", subject=subject, bytes=len(body))
        return True

    def fits(self, body: bytes, headers: Mapping[str, str] | None = None) -> bool:
        """Tell whether the server takes headers and body together. (docs/pitfalls.md, item 12)"""
        return len(body) <= self.room_for_body(headers)

    def room_for_body(self, headers: Mapping[str, str] | None = None) -> int:
        """Return how many bytes of body fit a message beside the headers."""
        taken = sum(len(name.encode()) + len(value.encode()) + 4 for name, value in (headers or {}).items())
        return max(self.max_payload - _HEADER_OVERHEAD - taken, 0)

    @asynccontextmanager
    async def barrier(self) -> AsyncIterator[Confirmation]:
        """Raise `Unconfirmed` unless the broker has answered everything that the block published.

        After the block, the confirmation has the accounts to which the broker denied a key since the block began.
        """
        epoch, opened = self.connection_epoch, self._denied_keys.open()
        confirmation = Confirmation()
        try:
            outer = _BARRIER_EPOCH.set(epoch)
            try:
                yield confirmation
            finally:
                _BARRIER_EPOCH.reset(outer)
            if not await self._round_trip(epoch):
                raise Unconfirmed("the broker did not confirm what was published")
            confirmation.denied = self._denied_keys.since(opened)
        finally:
            self._denied_keys.close(opened)

    async def probe(self, frames: Mapping[tuple[str, bool], bytes]) -> set[tuple[str, bool]]:
        """Write frames by `Denial.use`; return the uses that the broker denies, which are not counted or logged.

        Errors are those of `barrier` and `write`.
        """
        async with self._one_probe:
            self._probed = dict.fromkeys(frames, False)
            try:
                async with self.barrier():
                    await self.write(b"".join(frames.values()))
                return {use for use, is_denied in self._probed.items() if is_denied}
            finally:
                self._probed = {}

    async def _round_trip(self, epoch: int) -> bool:
        """Tell whether the broker answers a ping on the connection of this epoch."""
        if self.connection_epoch != epoch or not self.connected:
            return False
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.on_break.add(answered.cancel)
        sending = asyncio.ensure_future(self.client.ping(answered))
        try:
            await asyncio.wait({answered}, timeout=self._confirm_s)
            return answered.done() and self.connected and self.connection_epoch == epoch
        finally:
            self.on_break.discard(answered.cancel)
            answered.cancel()
            await cancel_and_wait(sending)

    async def close(self) -> None:
        """Close the connection; what was not confirmed may be lost."""
        try:
            await self.client.close()
        except (OSError, RuntimeError) as error:  # a write to a socket that is gone, in uvloop's words too
            log.debug("closing a broken connection", error=where(error))

    def on_connected(self) -> None:
        """Note that the first connection is up."""
        self._connected.set()
        self.outage.ended()

    async def on_reconnected(self) -> None:
        """Note that the connection is up again."""
        self.on_connected()

    async def on_disconnected(self) -> None:
        """Note that the connection is down: barriers in flight fail."""
        metrics.DISCONNECTS.inc()
        self._connected.clear()
        self._start_epoch()
        if not self.is_closed and self.outage.cause is None:
            self.outage.failed(self._last_words, servers=self._servers)

    async def on_closed(self) -> None:
        """Note that the client has given up for good."""
        self._connected.clear()
        self._start_epoch()
        self._on_close()

    async def on_error(self, error: Exception) -> None:
        """Report an error of the client; one that shows a stalled broker fails the writes in flight."""
        # Only a flush that times out shows that: many buffered bytes may just be many senders.
        self._write_timeouts += isinstance(error, nats.errors.FlushTimeoutError)
        metrics.BROKER_ERRORS.labels(type(error).__name__).inc()
        if denial_in(str(error)) is not None:
            return  # `_on_denial` has reported it
        if self.connected and isinstance(error, _DISCONNECTED):
            self._last_words = describe(error)
        elif self.connected:
            log.warning("broker reported an error", error=describe(error), servers=self._servers)
        else:
            self.outage.failed(describe(error), servers=self._servers)

    def _on_denial(self, denial: Denial) -> None:
        """Count a denial and log it. Accounts that were denied a key are logged by who waits for the barrier."""
        if denial.use in self._probed:
            self._probed[denial.use] = True
            return
        if denial.subject == USER_INFO:
            return
        metrics.DENIED.labels(denial.kind).inc()
        self.last_denials[denial.kind] = denial
        if denial.kind == "key":
            self._denied_keys.add(denial.account)
        else:
            log.warning("the broker denied a subject", subject=denial.subject, cause=denial.text)

    def _start_epoch(self) -> None:
        self.connection_epoch += 1
        for wake in list(self.on_break):
            wake()


async def connect(
    settings: Settings,
    name: str,
    on_close: Callable[[], None] = lambda: None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    outage: Outage | None = None,
) -> Broker:
    """Connect; a server that cannot be reached is tried again forever, and `outage` says why it cannot.

    The client calls `on_close` when it gives up for good.
    """
    servers = [server_of(url) for url in settings.nats_url]
    broker = Broker(SteadyClient(), limits.confirm_s, servers, on_close, outage)
    broker.client.renew = lambda: credentials(settings)
    await broker.client.connect(
        servers=settings.nats_url,
        name=name,
        error_cb=broker.on_error,
        disconnected_cb=broker.on_disconnected,
        reconnected_cb=broker.on_reconnected,
        closed_cb=broker.on_closed,
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
        connect_timeout=5,
        ping_interval=10,
        max_outstanding_pings=2,
        pending_size=limits.write_buffer_bytes,
        flush_timeout=limits.confirm_s,
        inbox_prefix=f"{INBOX_PREFIX}.{token_hex(8)}",
        **credentials(settings),
    )
    broker.on_connected()
    return broker
