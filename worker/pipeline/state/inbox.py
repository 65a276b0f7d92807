"""A partition's inbox: the events that wait to be batched, and where the partition stands in the stream."""

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from roomkeys.errors import TransientError
from roomkeys.events.event import AnyEvent
from roomkeys.events.position import StreamPosition
from worker.limits import Limits

TURNS: Final = 4
"""Turns of the event loop that a message takes from the socket to an inbox."""


class Inbox:
    """A partition's events in stream order; bounded.

    The feed fills it and the partition empties it. It is *attached* while the shared feed fills it, and *detached*
    while it catches up with a separate consumer; a *failed* one gets nothing more. `position` is the last message
    of the stream that was read for it.
    """

    def __init__(
        self, partition: int, position: StreamPosition, limits: Limits, *, wakeup: asyncio.Event, space: asyncio.Event
    ) -> None:
        self.partition = partition
        self.position = position
        self.failure: TransientError | None = None
        self.is_attached = False
        self._limits = limits
        self._events: deque[AnyEvent] = deque()
        self._bytes = 0
        self._wakeup = wakeup
        self._space = space

    def __len__(self) -> int:
        return len(self._events)

    @property
    def is_full(self) -> bool:
        """Tell whether the next event has to wait."""
        return len(self._events) >= self._limits.inbox_events or self._bytes >= self._limits.inbox_bytes

    @property
    def oldest_ns(self) -> int | None:
        """Return when the broker stored the first event (epoch nanoseconds); None if there is none."""
        return self._events[0].origin.time_ns if self._events else None

    # The feed's side

    def attach(self) -> None:
        """Let the shared feed fill the inbox from `position` on."""
        self.is_attached = True

    def detach(self, position: StreamPosition) -> None:
        """Let the inbox catch up from `position`, or from its own if that is later."""
        if position.sequence > self.position.sequence:
            self.position = position
        self.is_attached = False

    def fail(self, error: TransientError) -> None:
        """Take no more events; the partition finds the error in place of them."""
        self.failure = error
        self._wakeup.set()
        self._space.set()

    def offer(self, event: AnyEvent, position: StreamPosition) -> bool:
        """Append the event at this position; False, and nothing changes, if the inbox is full."""
        if self.is_full:
            return False
        self._events.append(event)
        self._bytes += len(event.origin.body)
        self.position = position
        self._wakeup.set()
        return True

    def pass_over(self, position: StreamPosition) -> None:
        """Note a message that is another partition's, or no event."""
        self.position = position

    async def wait_for_space(self) -> None:
        """Wait until the inbox is no longer full, or has failed."""
        while self.is_full and self.failure is None:
            self._space.clear()
            await self._space.wait()

    # The partition's side

    async def wait(self, seconds: float) -> bool:
        """Wait for an event for at most `seconds`; True if there is one. Raise the error of a failed inbox."""
        if not self._events and self.failure is None:
            await self.wait_for_wakeup(seconds)
        if self.failure is not None:
            raise self.failure
        return bool(self._events)

    async def wait_for_wakeup(self, seconds: float) -> None:
        """Wait for at most `seconds` until something arrives or wakes the partition."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wakeup.wait()

    async def drain_ready(self) -> None:
        """Take in what has arrived at the socket: one large batch costs less than two small ones."""
        quiet = 0
        while quiet < TURNS:
            before = len(self._events)
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self._events) == before else 0

    def take(self, most_events: int, most_accounts: int) -> list[AnyEvent]:
        """Return the first events within the limits, at least one; they stay until `discard_through`."""
        return first_within(self._events, most_events, most_accounts)

    def discard_through(self, applied: int) -> None:
        """Drop the events up to this stream sequence: they have been applied."""
        while self._events and self._events[0].origin.sequence <= applied:
            self._bytes -= len(self._events.popleft().origin.body)
            self._space.set()


def first_within(events: Iterable[AnyEvent], most_events: int, most_accounts: int) -> list[AnyEvent]:
    """Return the first events within the limits, at least one."""
    batch: list[AnyEvent] = []
    accounts = 0
    for event in events:
        accounts += event.weight
        if batch and (len(batch) >= most_events or accounts > most_accounts):
            break
        batch.append(event)
    return batch
