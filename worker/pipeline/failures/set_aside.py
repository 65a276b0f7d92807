"""Rooms that are set aside: their events wait, in order, while the partition's other rooms go on.

What is here is what the database holds too (`store/writes/waiting.py`), with the times at which to try again. The
next owner of the partition reads it back. (docs/design.md, "Set-aside rooms")
"""

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final

from roomkeys.backoff import NO_JITTER, Backoff
from roomkeys.events.decode import decode, parse
from roomkeys.events.event import AnyEvent, StreamMessage
from store.leases.lease import Lease
from store.writes.waiting import StoredWaiting, waiting_id
from worker.limits import Limits
from worker.pipeline.failures.batch_sizer import LONGEST_RETRY_PAUSE_S
from worker.pipeline.state.inbox import first_within
from worker.telemetry import metrics
from worker.telemetry.logs import logger

_LONGEST_CONFLICT_PAUSE_S: Final = 5.0
_REMINDER_S: Final = 30.0
_MOST_AT_ONCE: Final = 64
"""How many events of one room are tried at once, as long as they succeed."""

log = logger("set_aside")


@dataclass(slots=True)
class WaitingEvent:
    """An event that waits, and what is stored about it."""

    event: AnyEvent
    stored: StoredWaiting


@dataclass(slots=True)
class _Room:
    """The events of one room that wait, when the first one is due, and how many to try at once then."""

    due: float
    backoff: Backoff
    since: float
    reported: float
    at_once: int = 1
    waiting: deque[WaitingEvent] = field(default_factory=deque)


class SetAside:
    """The set-aside rooms of one partition under one lease; events without a room count as one room."""

    def __init__(self, lease: Lease, limits: Limits) -> None:
        self._lease = lease
        self._limits = limits
        self._rooms: dict[str | None, _Room] = {}
        self._events = 0
        self._bytes = 0
        self._retries = 0

    def __contains__(self, room_id: str | None) -> bool:
        return room_id in self._rooms

    def __len__(self) -> int:
        return len(self._rooms)

    @property
    def events(self) -> int:
        """Return how many events wait here."""
        return self._events

    @property
    def oldest_ns(self) -> int | None:
        """Return when the broker stored the first of them (epoch nanoseconds); None if there is none."""
        return min((room.waiting[0].event.origin.time_ns for room in self._rooms.values()), default=None)

    # Events that begin to wait

    def fitting(self, events: Sequence[AnyEvent]) -> Sequence[AnyEvent]:
        """Return the events up to the first one that has to wait here and has no place."""
        if not self._rooms:
            return events
        left, left_bytes = self._space()
        fitting: list[AnyEvent] = []
        for event in events:
            if event.room_id in self._rooms:
                left, left_bytes = left - 1, left_bytes - len(event.origin.body)
                if left < 0 or left_bytes < 0:
                    break
            fitting.append(event)
        return fitting

    def can_hold(self, event: AnyEvent) -> bool:
        """Tell whether the event may wait here at all: a very large one has no place even if nothing else waits."""
        return len(event.origin.body) <= self._limits.set_aside_bytes

    def has_place_for(self, event: AnyEvent) -> bool:
        """Tell whether one more event may wait here."""
        left, left_bytes = self._space()
        return left > 0 and left_bytes >= len(event.origin.body)

    def _space(self) -> tuple[int, int]:
        return self._limits.set_aside_events - self._events, self._limits.set_aside_bytes - self._bytes

    def stored(self, events: Iterable[AnyEvent]) -> list[StoredWaiting]:
        """Return what to store of those events that have to wait because their rooms are set aside."""
        if not self._rooms:
            return []
        return [self.new(event) for event in events if event.room_id in self._rooms]

    def new(self, event: AnyEvent) -> StoredWaiting:
        """Return what to store of an event that begins to wait."""
        return StoredWaiting(waiting_id(self._lease, event.origin.sequence), event.room_id, event.origin)

    def add(self, stored: Iterable[StoredWaiting]) -> None:
        """Note events that are stored now; those of a lease before this one too."""
        for one in stored:
            event = decode(one.message, parse(one.message.body))
            if event is None:
                raise LookupError("the operation of an event that waits is unknown")
            room = self._rooms.get(event.room_id)
            if room is None:
                backoff = Backoff(self._limits.set_aside_pause_s, LONGEST_RETRY_PAUSE_S, spread=NO_JITTER)
                backoff.attempts = one.tries
                now = time.monotonic()
                room = self._rooms[event.room_id] = _Room(now + backoff.next(), backoff, now, now)
            room.waiting.append(WaitingEvent(event, one))
            self._count(1, len(one.message.body))

    # Events that are tried again

    def seconds_until_due(self, most: float) -> float:
        """Return in how many seconds the next room is due, or `most` if none is until then."""
        if not self._rooms:
            return most
        return min(most, max(min(room.due for room in self._rooms.values()) - time.monotonic(), 0.0))

    def due(self) -> tuple[WaitingEvent, list[AnyEvent]] | None:
        """Return the events to try now, and the first of them: those of the room that has been due for longest."""
        if self.seconds_until_due(1.0) > 0:
            return None
        room = min(self._rooms.values(), key=lambda room: room.due)
        waiting = (one.event for one in room.waiting)
        return room.waiting[0], first_within(waiting, room.at_once, self._limits.batch_accounts)

    def ids_of(self, events: Sequence[AnyEvent]) -> list[str]:
        """Return the ids of those first events that have waited here."""
        room = self._rooms.get(events[0].room_id) if events else None
        pairs = zip(events, room.waiting if room else (), strict=False)
        return [waiting.stored.id for _, waiting in takewhile(lambda pair: pair[0] is pair[1].event, pairs)]

    def find(self, message: StreamMessage) -> AnyEvent | None:
        """Return the first event of its room that waits, if that is the event in this message."""
        heads = (room.waiting[0] for room in self._rooms.values())
        return next((head.event for head in heads if head.stored.message == message), None)

    def next_retry(self) -> int:
        """Return a number for the outbox entries of the events that are tried now."""
        self._retries += 1
        return self._retries

    def succeeded(self, room_id: str | None, events: int) -> None:
        """Drop the first events of a room, which wait no longer. The last one frees the room."""
        room = self._rooms[room_id]
        for _ in range(events):
            self._count(-1, -len(room.waiting.popleft().stored.message.body))
        room.backoff.reset()
        room.due, room.at_once = time.monotonic(), min(room.at_once * 2, _MOST_AT_ONCE)
        if not room.waiting:
            del self._rooms[room_id]
            self._count(0, 0)
            seconds = round(time.monotonic() - room.since, 1)
            log.info("room is no longer set aside", partition=self._lease.partition, room=room_id, seconds=seconds)

    def failed(self, waiting: WaitingEvent, stored: StoredWaiting) -> None:
        """Note how often an event has failed by now; its room is tried again after a pause that grows."""
        room = self._rooms[waiting.event.room_id]
        waiting.stored = stored
        room.due, room.at_once = time.monotonic() + room.backoff.next(), 1

    def try_alone(self, waiting: WaitingEvent) -> None:
        """Let the event be tried next without those after it, any of which may have failed."""
        self._rooms[waiting.event.room_id].at_once = 1

    def conflicted(self, waiting: WaitingEvent, cause: str) -> None:
        """Note that another writer still holds the event's room up."""
        room = self._rooms[waiting.event.room_id]
        now = time.monotonic()
        if now - room.reported >= _REMINDER_S:
            room.reported = now
            seconds = round(now - room.since, 1)
            log.warning("another writer holds the room", **fields_of(waiting.event), cause=cause, seconds=seconds)
        room.due = now + min(room.backoff.next(), _LONGEST_CONFLICT_PAUSE_S)
        room.at_once = 1

    def _count(self, events: int, size: int) -> None:
        self._events += events
        self._bytes += size
        metrics.SET_ASIDE.labels(str(self._lease.partition)).set(len(self._rooms))


def fields_of(event: AnyEvent) -> dict[str, object]:
    """Return the fields that name an event in the log."""
    return {"sequence": event.origin.sequence, "operation": event.operation.value, "room": event.room_id}
