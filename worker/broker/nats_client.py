"""nats-py's client, with fixes for what a broker, a network or a producer can do to it.

This is the only file that overrides private parts of the library. `tests/faults` has a test for each reason, and
`worker/broker/compatibility.py` lists the names that are overridden or used. (docs/pitfalls.md, items 1 to 4, 10)
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.protocol import parser

from roomkeys.errors import TransientError
from worker.broker.compatibility import PATTERNS, IncompatibleClient, require_names
from worker.broker.permissions.denials import Denial, denial_in
from worker.telemetry.logs import where

_PING: Final = b"PING\r\n"
_PROOFS: Final = 2


def _separate_words_by_spaces_only() -> None:
    """Let the client's parser separate words by spaces and tabs only, as the protocol does.

    nats-py separates by any white space. So it stops reading at a subject that contains, for example, a vertical
    tab, which the broker accepts as part of a subject.
    """
    for name in PATTERNS:
        if hasattr(parser, name):  # otherwise `require_names` reports it
            strict = getattr(parser, name).pattern.replace(rb"[^\s]", rb"[^ \t\r\n]").replace(rb"\s+", rb"[ \t]+")
            setattr(parser, name, re.compile(strict.replace(b"[^\\S\r\n]+", rb"[ \t]+")))


_separate_words_by_spaces_only()

Gate = Callable[[bytes, bytes], bool]
"""Tells from subject and reply address whether a message is let in. It is asked once per message."""

_LARGE: Final = 16 * 1024
"""Bytes of payload from which a message that is not let in is not collected in memory."""


class SteadyClient(Client):
    """A client that keeps reading, counts its connections, and sends a PING after what was published before it.

    `on_connection` is called at the start of every connection attempt, also after a connection that the library
    gave up while reconnecting, which it reports to no callback. It calls `on_denial` for each subject that the broker
    denies, before it answers any later ping. `renew` returns the options of authentication and TLS for the next
    attempt: the files behind them may have changed. The constructor raises `IncompatibleClient` if the library lacks a
    name that this class overrides or uses.
    """

    def __init__(self) -> None:
        require_names()
        super().__init__()
        self.on_connection: Callable[[], None] = lambda: None
        self.renew: Callable[[], Mapping[str, Any]] = dict
        self.on_denial: Callable[[Denial], None] = lambda _: None
        self._proof_inbox = ""
        self._denials = 0
        self._gates: dict[int, Gate] = {}
        self._ps: _Parser = _Parser(self)

    def guard(self, subscription: Subscription, gate: Gate) -> None:
        """Drop messages of the subscription that the gate does not let in, before anything is made of them.

        The library would keep them in the queue of the subscription, and report each one that the queue cannot take.
        """
        self._gates[subscription._id] = gate  # noqa: SLF001 - by which the library finds a message's subscription

    def admits(self, sid: int, subject: bytes, reply: bytes) -> bool:
        """Ask the gate of a subscription, if it has one."""
        gate = self._gates.get(sid)
        return gate is None or gate(subject, reply)

    async def write(self, framed: bytes) -> None:
        """Hand framed protocol bytes to the socket; those that a flush cannot send in time stay in the buffer."""
        await self._send_command(framed)
        await self._flush_pending(force_flush=True)

    async def ping(self, answered: asyncio.Future[Any]) -> None:
        """Send a ping after everything that was published before it."""
        await self._send_ping(answered)

    async def prove_wire_order(self, answer_s: float = 5.0) -> None:
        """Require that the broker takes messages before a ping that was sent after them.

        One framed and one published message go to an inbox of this connection. The broker returns or denies each
        one as soon as it takes it. Raises `IncompatibleClient` if it answers the ping before that, and
        `TransientError`, after which the proof can be tried again, if it does not answer within `answer_s` seconds
        or returns nothing.
        """
        inbox = self.new_inbox()
        self._proof_inbox, self._denials = inbox.lower(), 0
        subscription = await self.subscribe(inbox)
        try:
            await self.write(f"PUB {inbox} 0\r\n\r\n".encode())
            await self.publish(inbox)
            first, second = [await self._count_at_pong(subscription, answer_s) for _ in range(2)]
        finally:
            self._proof_inbox = ""
            with suppress(nats.errors.Error):
                await subscription.unsubscribe()
        if second < _PROOFS:
            raise TransientError("the broker does not return messages to an inbox of the worker")
        if first < _PROOFS:
            raise IncompatibleClient("its client sends a ping ahead of the messages published before it")

    async def _count_at_pong(self, subscription: Subscription, answer_s: float) -> int:
        answer = _Count(lambda: subscription.pending_msgs + self._denials)
        await self.ping(answer)
        try:
            return await asyncio.wait_for(answer, answer_s)
        except TimeoutError:
            raise TransientError("the broker does not answer a ping") from None

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        """Append the ping to the buffer: the library writes it ahead of what the buffer contains."""
        self._pongs.append(future or asyncio.get_running_loop().create_future())
        await self._send_command(_PING)
        await self._flush_pending()

    async def _process_pong(self) -> None:
        """Drop an answer that nobody waits for any more: it would end the library's reading."""
        if self._pongs and self._pongs[0].done():
            self._pongs.pop(0)
            self._pings_outstanding = 0
        else:
            await super()._process_pong()

    async def _process_err(self, err_msg: str) -> None:
        """Report a denial as the broker spelled it; reconnect where the library would close for good.

        It would, for example, when the user's JWT has expired. A denial that `prove_wire_order` expects is reported to
        nobody.
        """
        if self._proof_inbox and "publish" in err_msg and self._proof_inbox in err_msg:
            self._denials += 1
        elif parser.PERMISSIONS_ERR in err_msg:
            if (denial := denial_in(self._as_sent(err_msg))) is not None:
                self.on_denial(denial)
            await super()._process_err(err_msg)
        else:
            error = nats.errors.Error(f"nats: {err_msg}")
            await self._process_op_err(error)
            await self._error_cb(error)

    def _as_sent(self, err_msg: str) -> str:
        """Return the error that is being read as the broker sent it: the library writes it in small letters."""
        line = parser.ERR_RE.match(self._ps.buf)
        sent = "" if line is None else line[1].decode(errors="replace")
        return sent if sent.lower() == err_msg else err_msg

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Keep the limit of a message up to date: the library reads it only when it connects."""
        self._max_payload = info.get("max_payload", self._max_payload)
        await super()._process_info(info, initial_connection)

    async def _connect_to_server(self, server: Any) -> None:
        """Read certificates and credentials again, before each attempt."""
        self.options.update({name: value for name, value in self.renew().items() if name == "tls"})
        if self._nkeys_seed is not None:
            self._setup_nkeys_seed_connect()
        await super()._connect_to_server(server)

    async def _process_connect_init(self) -> None:
        self.on_connection()
        try:
            await super()._process_connect_init()
        except (nats.errors.Error, OSError, TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001 - any other error would end the library's attempts to reconnect
            raise nats.errors.Error(f"nats: {where(error)}") from None
        # A ping of the previous connection would be answered first, and confirm what comes after it.
        self._pending = [command for command in self._pending if command != _PING]
        self._pending_data_size = sum(map(len, self._pending))

    def _build_message(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> Msg:
        """Read a subject that is not UTF-8: the library would stop reading while it reports to be connected."""
        return self.msg_class(
            subject=subject.decode(errors="replace"),
            reply=reply.decode(errors="replace"),
            data=data,
            headers=headers,
            _client=self,
            _sid=sid,
        )

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        """Drop a message that is not let in."""
        is_admitted, self._ps.is_admitted = self._ps.is_admitted, False
        if is_admitted or self.admits(sid, subject, reply):
            await super()._process_msg(sid, subject, reply, data, headers)

    async def _process_headers(self, headers: Any) -> Any:
        """Return None for headers that are not UTF-8."""
        try:
            return await super()._process_headers(headers)
        except (UnicodeDecodeError, ValueError, IndexError):
            return None


class _Count(asyncio.Future[int]):
    """The answer to a ping, with what `count` returns at the moment at which the client reads the PONG.

    A task that waits for the answer would count too late: it runs after the rest of the bytes have been read.
    """

    def __init__(self, count: Callable[[], int]) -> None:
        super().__init__()
        self._count = count

    def set_result(self, _: object) -> None:
        """Take the place of `True`, the library's result."""
        super().set_result(self._count())


class _Parser(parser.Parser):
    """A parser that skips the payload of a large message that is not let in, instead of collecting it.

    `is_admitted` says that the message whose payload is being collected has been let in.
    """

    def reset(self) -> None:
        super().reset()
        self.is_admitted = False
        self._skip = 0

    async def parse(self, data: bytes = b"") -> None:
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        await super().parse(data)
        if self.state == parser.AWAITING_MSG_PAYLOAD and self.needed > _LARGE and not self.is_admitted:
            self._ask_or_skip()

    def _ask_or_skip(self) -> None:
        message = self.msg_arg
        if self.nc.admits(message["sid"], message["subject"], message["reply"]):
            self.is_admitted = True
            return
        self._skip = self.needed + parser.CRLF_SIZE - len(self.buf)
        self.buf.clear()
        self.header_needed = 0
        self.state = parser.AWAITING_CONTROL_LINE
