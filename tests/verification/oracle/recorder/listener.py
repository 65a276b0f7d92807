"""A listener: one NATS connection that subscribes to everything, reconnects for ever, and knows its gaps.

A round trip is a message that the listener publishes and receives itself. Everything that the broker had taken
before it began has arrived when it ends. So what the broker took between the last round trip before a disconnect
and the first one after it may have been missed: that is a gap.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from secrets import token_hex

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.verification.oracle.recorder.classify import now_ms
from tests.verification.oracle.recording import Gap

MARKS = "chat.oracle."
"""The prefix of the subjects of round trips."""

ROUND_TRIP_EVERY_SECONDS = 0.25
_ROUND_TRIP_SECONDS = 2.0

OnMessage = Callable[[int, str, bytes, Mapping[str, str] | None], None]


class Listener:
    """One connection. `on_message` is called with `number` for every message, and gaps are appended to `gaps`."""

    def __init__(self, number: int, on_message: OnMessage, gaps: list[Gap]) -> None:
        self.number = number
        self._on_message = on_message
        self._gaps = gaps
        self.client: Client
        self._marks: dict[str, asyncio.Event] = {}
        self._disconnects = 0
        self._connected = True
        self._missing_since: int | None = None
        self._complete_until = now_ms()

    async def connect(self, url: str) -> None:
        """Connect and subscribe."""
        self.client = await nats.connect(
            url,
            name=f"listener {self.number}",
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.05,
            error_cb=_ignore,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
        )
        await self.client.subscribe("chat.>", cb=self._receive, pending_msgs_limit=0, pending_bytes_limit=0)
        await self.round_trip()

    async def close(self) -> None:
        """Close the connection."""
        await self.client.close()

    async def run(self) -> None:
        """Make round trips until cancelled, so that gaps are short."""
        while True:
            await self.round_trip()
            await asyncio.sleep(ROUND_TRIP_EVERY_SECONDS)

    async def round_trip(self) -> None:
        """Return once everything that the broker had taken before this call has arrived or is within a gap."""
        while not await self._try_round_trip():  # noqa: ASYNC110 - nothing signals that a server is back
            await asyncio.sleep(0.02)

    async def _try_round_trip(self) -> bool:
        mark, disconnects, began = MARKS + token_hex(8), self._disconnects, now_ms()
        self._marks[mark] = asyncio.Event()
        try:
            await self.client.publish(mark, b"")
            await asyncio.wait_for(self._marks[mark].wait(), _ROUND_TRIP_SECONDS)
        except (nats.errors.Error, OSError, TimeoutError):
            return False
        finally:
            del self._marks[mark]
        if disconnects != self._disconnects or not self._connected:
            return False
        if self._missing_since is not None:
            self._gaps.append(Gap(self.number, self._missing_since, now_ms()))
            self._missing_since = None
        self._complete_until = max(self._complete_until, began)
        return True

    async def _receive(self, message: Msg) -> None:
        if message.subject.startswith(MARKS):
            if message.subject in self._marks:
                self._marks[message.subject].set()
            return
        self._on_message(self.number, message.subject, message.data, message.headers)

    async def _on_disconnected(self) -> None:
        self._disconnects += 1
        self._connected = False
        if self._missing_since is None:
            self._missing_since = self._complete_until

    async def _on_reconnected(self) -> None:
        self._connected = True


@asynccontextmanager
async def listening(number: int, url: str, on_message: OnMessage, gaps: list[Gap]) -> AsyncIterator[Listener]:
    """Listen to one server for the length of the block."""
    listener = Listener(number, on_message, gaps)
    await listener.connect(url)
    running = asyncio.create_task(listener.run())
    try:
        yield listener
    finally:
        running.cancel()
        await asyncio.wait([running])
        await listener.close()


async def _ignore(_error: Exception) -> None:
    """Log nothing: tests take the broker away on purpose."""
