"""An ear: one NATS connection that hears everything, comes back for ever, and knows what it may have missed.

A message that was published and confirmed before a round trip through the ear's own subscription began has been
heard when it ends. What the broker took after the last such round trip before a disconnect, and before the first
one after it, may have been missed: a gap.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from secrets import token_hex

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.verification.oracle.classify import now_ms
from tests.verification.oracle.recording import Gap

MARKS = "chat.judge."
BEAT_SECONDS = 0.25
_MARK_SECONDS = 2.0

Hear = Callable[[int, str, bytes, Mapping[str, str] | None], None]


class Ear:
    """One connection; `number` names it, `hear` is called for every message, `gaps` grows."""

    def __init__(self, number: int, hear: Hear, gaps: list[Gap]) -> None:
        self.number = number
        self._hear = hear
        self._gaps = gaps
        self.client: Client
        self._marks: dict[str, asyncio.Event] = {}
        self._breaks = 0
        self._connected = True
        self._missing_since: int | None = None
        self._whole_at = now_ms()

    async def connect(self, url: str) -> None:
        """Connect and listen."""
        self.client = await nats.connect(
            url,
            name=f"ear {self.number}",
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.05,
            error_cb=_ignore,
            disconnected_cb=self._went_down,
            reconnected_cb=self._came_back,
        )
        await self.client.subscribe("chat.>", cb=self._take, pending_msgs_limit=0, pending_bytes_limit=0)
        await self.round_trip()

    async def close(self) -> None:
        """Stop listening."""
        await self.client.close()

    async def beat(self) -> None:
        """Go round for ever, so that a gap is not longer than it was."""
        while True:
            await self.round_trip()
            await asyncio.sleep(BEAT_SECONDS)

    async def round_trip(self) -> None:
        """Return once all that the broker had taken before this call has been heard, or stands in a gap."""
        while not await self._go_round():  # noqa: ASYNC110 - a server that is away makes no event
            await asyncio.sleep(0.02)

    async def _go_round(self) -> bool:
        mark, breaks, began = MARKS + token_hex(8), self._breaks, now_ms()
        self._marks[mark] = asyncio.Event()
        try:
            await self.client.publish(mark, b"")
            await asyncio.wait_for(self._marks[mark].wait(), _MARK_SECONDS)
        except (nats.errors.Error, OSError, TimeoutError):
            return False
        finally:
            del self._marks[mark]
        if breaks != self._breaks or not self._connected:
            return False
        if self._missing_since is not None:
            self._gaps.append(Gap(self.number, self._missing_since, now_ms()))
            self._missing_since = None
        self._whole_at = max(self._whole_at, began)
        return True

    async def _take(self, message: Msg) -> None:
        if message.subject.startswith(MARKS):
            if message.subject in self._marks:
                self._marks[message.subject].set()
            return
        self._hear(self.number, message.subject, message.data, message.headers)

    async def _went_down(self) -> None:
        self._breaks += 1
        self._connected = False
        if self._missing_since is None:
            self._missing_since = self._whole_at

    async def _came_back(self) -> None:
        self._connected = True


@asynccontextmanager
async def listening(number: int, url: str, hear: Hear, gaps: list[Gap]) -> AsyncIterator[Ear]:
    """Listen on one server for the length of the block."""
    ear = Ear(number, hear, gaps)
    await ear.connect(url)
    beating = asyncio.create_task(ear.beat())
    try:
        yield ear
    finally:
        beating.cancel()
        await asyncio.wait([beating])
        await ear.close()


async def _ignore(_error: Exception) -> None:
    """Say nothing: a broker that is away is what these tests are about."""
