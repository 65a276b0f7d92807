"""A partition's inbox: the events that wait to be batched."""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final

from roomkeys.errors import TransientError
from roomkeys.events.event import AnyEvent
from roomkeys.events.position import StreamPosition

INBOX_EVENTS: Final = 1_024
INBOX_BYTES: Final = 8 * 1024 * 1024

TURNS: Final = 4
"""Turns of the event loop that a message takes from the socket to an inbox."""


class Inbox:
    """A partition's events that wait to be batched, in stream order; bounded."""

    def __init__(self, partition: int, place: StreamPosition, moved: asyncio.Event) -> None:
        self.partition = partition
        self.place = place
        self.attached = False
        self.failure: TransientError | None = None
        self._events: deque[AnyEvent] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._moved = moved

    def __len__(self) -> int:
        return len(self._events)

    @property
    def full(self) -> bool:
        """Tell whether the next event has to wait."""
        return len(self._events) >= INBOX_EVENTS or self._bytes >= INBOX_BYTES

    def put(self, event: AnyEvent) -> None:
        """Append an event."""
        self._events.append(event)
        self._bytes += len(event.origin.body)
        self._arrived.set()

    def fail(self, error: TransientError) -> None:
        """Let the reader of this inbox find the error instead of events."""
        self.failure = error
        self._arrived.set()
        self._moved.set()

    def wake(self) -> None:
        """Let the reader of this inbox look around."""
        self._arrived.set()

    async def until_room(self) -> None:
        """Wait until there is room for an event."""
        while self.full and self.failure is None:
            self._moved.clear()
            await self._moved.wait()

    def clear_wakeup(self) -> None:
        """Forget what has waked the reader so far: it looks around now, and what comes after wakes it again."""
        self._arrived.clear()

    async def wait(self, seconds: float) -> bool:
        """Wait for an event for so long; True: there is one. Raises what the feed failed with."""
        if not self._events and self.failure is None:
            try:
                await asyncio.wait_for(self._arrived.wait(), seconds)
            except TimeoutError:
                return False
        if self.failure is not None:
            raise self.failure
        return bool(self._events)

    async def drain_ready(self) -> None:
        """Let in what has arrived at the socket: one batch of it costs less than two."""
        quiet = 0
        while quiet < TURNS:
            before = len(self._events)
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self._events) == before else 0

    def take(self, most_events: int, most_accounts: int) -> list[AnyEvent]:
        """Return the first events, within the limits but at least one; they stay until `forget`."""
        batch: list[AnyEvent] = []
        accounts = 0
        for event in self._events:
            accounts += event.weight
            if batch and (len(batch) >= most_events or accounts > most_accounts):
                break
            batch.append(event)
        return batch

    def discard_through(self, applied: int) -> None:
        """Forget the events up to a stream sequence: they have been applied."""
        while self._events and self._events[0].origin.sequence <= applied:
            self._bytes -= len(self._events.popleft().origin.body)
            self._moved.set()

    async def wait_for_wakeup(self, seconds: float) -> None:
        """Wait for so long, or until something arrives or wakes the reader of this inbox."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._arrived.wait(), seconds)
