"""nats-py's client, mended where a broker, a network or a producer can break it or deceive its user.

The one file that overrides the library's private parts; `tests/faults` holds each reason. (pitfalls.md, items
1 to 4 and 10)
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.protocol import parser

_PING = b"PING\r\n"


def _let_letters_be_letters() -> None:
    """Let the client's parser separate by spaces and tabs only, as the protocol does.

    It takes every white space for a separator, and so breaks off at a subject with, say, a vertical tab, which
    the broker takes for a letter.
    """
    for name in ("MSG_RE", "HMSG_RE"):
        strict = getattr(parser, name).pattern.replace(rb"[^\s]", rb"[^ \t\r\n]").replace(rb"\s+", rb"[ \t]+")
        setattr(parser, name, re.compile(strict.replace(b"[^\\S\r\n]+", rb"[ \t]+")))


_let_letters_be_letters()


class SteadyClient(Client):
    """A client whose pings wait their turn, whose connections are counted, and that reads on.

    `on_connection` is called whenever a connection is begun: also for the one after a connection that the
    library gave up while reconnecting, of which it tells nobody.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on_connection: Callable[[], None] = lambda: None

    async def write(self, framed: bytes) -> None:
        """Hand framed protocol bytes to the socket, or as many seconds as a flush may take to the buffer."""
        await self._send_command(framed)
        await self._flush_pending(force_flush=True)

    async def ping(self, answered: asyncio.Future[bool]) -> None:
        """Send a ping after everything that was published before it."""
        await self._send_ping(answered)

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        """Let a ping wait its turn: the library writes it past what its buffer holds."""
        self._pongs.append(future or asyncio.get_running_loop().create_future())
        await self._send_command(_PING)
        await self._flush_pending()

    async def _process_pong(self) -> None:
        """Let an answer go that nobody waits for any more: the library stops reading over it."""
        if self._pongs and self._pongs[0].done():
            self._pongs.pop(0)
            self._pings_outstanding = 0
        else:
            await super()._process_pong()

    async def _process_connect_init(self) -> None:
        self.on_connection()
        await super()._process_connect_init()
        # Pings of the former connection would be answered first and confirm what comes after them.
        self._pending = [command for command in self._pending if command != _PING]
        self._pending_data_size = sum(map(len, self._pending))

    def _build_message(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> Msg:
        """Read a subject that is not UTF-8: the library stops reading for good, and says it is connected."""
        return self.msg_class(
            subject=subject.decode(errors="replace"),
            reply=reply.decode(errors="replace"),
            data=data,
            headers=headers,
            _client=self,
            _sid=sid,
        )

    async def _process_headers(self, headers: Any) -> Any:
        """Read headers that are not UTF-8 as none."""
        try:
            return await super()._process_headers(headers)
        except (UnicodeDecodeError, ValueError, IndexError):
            return None
