"""The events stream as the feed and its catch-ups read it: where to read on, with which consumer, and why it fails."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from roomkeys.errors import TransientError
from roomkeys.events.position import StreamPosition
from worker.broker.connection import Broker
from worker.broker.jetstream.consumer import Consumer, Interrupted
from worker.broker.jetstream.stream import StreamMissing, expired, inspect, next_message, resume_after
from worker.limits import Limits
from worker.telemetry import metrics
from worker.telemetry.logs import logger
from worker.telemetry.outage import Outage

RETRY_SECONDS: Final = 0.5

log = logger("feed")


class StreamChanged(TransientError):
    """The stream is not the one that was read so far: every partition has to find its position in it again."""


class EventsStream:
    """The stream of one site. `create` creates it again if it is missing, or does nothing.

    `outage` says since when and why the stream cannot be read. While there is no connection, `Broker.outage` does.
    `unread_through` is the last message of the stream, and `first_unread_ns` the time of the first message that cannot
    be read, as far as they are known from `look_ahead`.
    """

    def __init__(self, broker: Broker, name: str, limits: Limits, create: Callable[[], Awaitable[None]]) -> None:
        self.broker = broker
        self.outage = Outage("events stream", log)
        self.name = name
        self.unread_through = 0
        self.first_unread_ns: int | None = None
        self._limits = limits
        self._create = create
        self._creating = asyncio.Lock()
        self._is_missing = False

    async def find_position(self, position: StreamPosition) -> StreamPosition:
        """Return where to read on after `position`: the same, unless the stream has changed since."""
        return await resume_after(self.broker, self.name, position)

    async def consumer_after(self, position: StreamPosition) -> Consumer:
        """Return a consumer of the messages after `position`, once the connection is up.

        Raise `StreamChanged` if the stream has changed since `position` was found. Report events that the stream's
        limits removed before they were read: a consumer sees no gap there.
        """
        await self.broker.until_connected()
        found = await self.find_position(position)
        if found != position:
            raise StreamChanged(changed(position, found))
        if lost := await expired(self.broker, self.name, position):
            metrics.STREAM_FAULTS.inc()
            log.error("events expired before they were read", after=position.sequence, events=lost)
        return Consumer(self.broker, self.name, position.sequence + 1, self._limits)

    def is_read(self) -> None:
        """Note that the stream can be read, as far as is known."""
        self._is_missing = False
        self.unread_through, self.first_unread_ns = 0, None
        self.outage.ended()

    async def report(self, error: TransientError, position: StreamPosition | None) -> None:
        """Report why the stream cannot be read after `position`, and create it if it is missing."""
        if isinstance(error, Interrupted) or not self.broker.connected:
            return
        self.outage.failed(str(error), reading_again_after=position and position.sequence)
        if isinstance(error, StreamMissing):
            metrics.STREAM_FAULTS.inc(not self._is_missing)
            self._is_missing = True
            async with self._creating:
                try:
                    await self._create()
                except TransientError as failure:
                    self.outage.failed(str(failure))

    async def look_ahead(self, sequence: int) -> None:
        """Find out what waits in the stream after a message, if the broker answers."""
        with suppress(TransientError):
            self.unread_through = (await inspect(self.broker, self.name)).state.last_seq
            if self.unread_through > sequence and self.first_unread_ns is None and self.outage.cause is not None:
                self.first_unread_ns = await next_message(self.broker, self.name, sequence)


def changed(position: StreamPosition, found: StreamPosition) -> str:
    """Say how the stream has changed that was read up to `position`, and is now read after `found`."""
    if found.sequence < position.sequence:
        return f"the stream ends before our place {position.sequence}: re-created or purged; events may be lost"
    return f"message {position.sequence} is not the one that was read: re-created; events may be lost"
