"""The feed: one reading of the stream for all partitions of a replica.

It hands each event to its partition's inbox. A full inbox holds the feed up only while no other partition
goes hungry; then it falls off and catches up by a reader of its own, until it meets the feed again. So one
slow partition delays no other, and nothing is buffered without bound. (design.md, "Partitions")
"""

import asyncio
from typing import Final

from roomkeys.errors import TransientError
from roomkeys.events.decode import decode, parse, room_of
from roomkeys.events.event import AnyEvent, StreamMessage
from roomkeys.events.position import StreamPosition, partition_of
from roomkeys.subjects import operation_of
from worker.broker.cancellation import cancel_and_wait
from worker.broker.connection import Broker
from worker.broker.consumer import Consumer, FeedBroken
from worker.broker.stream import expired, resume_after
from worker.pipeline.inbox import Inbox
from worker.telemetry import metrics
from worker.telemetry.logs import logger

_RETRY_SECONDS: Final = 0.5

log = logger("feed")


class StreamChanged(TransientError):
    """The stream is not the one that was read so far: every partition has to find its place in it anew."""


class Feed:
    """Reads the stream once and fills the inboxes of the partitions that joined."""

    def __init__(self, broker: Broker, stream: str, partitions: int, tasks: asyncio.TaskGroup) -> None:
        self._broker = broker
        self._tasks = tasks
        self._stream = stream
        self._partitions = partitions
        self._inboxes: dict[int, Inbox] = {}
        self._catching_up: dict[int, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._joined = asyncio.Event()
        self._moved = asyncio.Event()
        self.place: StreamPosition | None = None

    def join(self, partition: int, place: StreamPosition) -> Inbox:
        """Return an inbox that gets the partition's events after `place`."""
        inbox = Inbox(partition, place, self._moved)
        self._inboxes[partition] = inbox
        if self.place is None:
            self.place = place
        if place.created_ns != self.place.created_ns:
            inbox.fail(StreamChanged("made anew since this place was found"))
        elif place.sequence >= self.place.sequence:
            inbox.attached = True
        else:
            self._start_catching_up(inbox)
        self._joined.set()
        self._moved.set()  # somebody may be hungry now
        return inbox

    def leave(self, partition: int) -> None:
        """Stop feeding the partition."""
        inbox = self._inboxes.pop(partition, None)
        if inbox is not None:
            inbox.fail(FeedBroken("left"))
        self._end_catching_up(partition)

    async def close(self) -> None:
        """Stop feeding anybody."""
        for partition in list(self._inboxes):
            self.leave(partition)
        for task in self._ending:
            await cancel_and_wait(task)

    def seen(self, inbox: Inbox) -> StreamPosition:
        """Return how far the stream has been read for this partition."""
        if inbox.attached and self.place is not None and self.place.sequence > inbox.place.sequence:
            return self.place
        return inbox.place

    async def run(self) -> None:
        """Read the stream until cancelled, over and over from the last message really seen."""
        while True:
            await self._joined.wait()
            try:
                await self._read()
            except FeedBroken as error:
                log.warning(
                    "feed broken, starting over", cause=str(error), after=self.place and self.place.sequence
                )
            except StreamChanged as error:
                self._start_over(error)
            except TransientError as error:
                log.warning("stream out of reach", cause=str(error))
            await asyncio.sleep(_RETRY_SECONDS)

    async def _read(self) -> None:
        await self._broker.until_connected()
        place = self.place
        if place is None:
            self._joined.clear()
            return
        if await resume_after(self._broker, self._stream, place) != place:
            raise StreamChanged("re-made or shortened")
        await self._note_expired(place)
        async with Consumer(self._broker, self._stream, place.sequence + 1) as reader:
            while True:
                for message in await reader.read():
                    await self._route(message, place.created_ns)

    async def _note_expired(self, place: StreamPosition) -> None:
        """Say what the stream's limits took while nothing was read: the reader sees no gap where it begins."""
        if lost := await expired(self._broker, self._stream, place):
            metrics.STREAM_FAULTS.inc()
            log.error("events expired before they were read", after=place.sequence, events=lost)

    def _start_over(self, error: StreamChanged) -> None:
        log.error("the stream is not the one that was read so far", cause=str(error))
        self.place = None
        self._joined.clear()
        for inbox in self._inboxes.values():
            inbox.fail(error)

    async def _route(self, message: StreamMessage, created_ns: int) -> None:
        """Hand a message to its partition; those that fall behind catch up by themselves."""
        event = self._decode(message)
        if event is not None:
            inbox = self._inboxes.get(partition_of(event.room_id, self._partitions))
            if inbox is not None and inbox.attached and message.sequence > inbox.place.sequence:
                await self._until_room_or_hunger(inbox)
                if inbox.failure is None and inbox.full:
                    self._detach(inbox)
                elif inbox.failure is None:
                    inbox.put(event)
                    inbox.place = StreamPosition(message.sequence, message.time_ns, created_ns)
        self.place = StreamPosition(message.sequence, message.time_ns, created_ns)

    def _decode(self, message: StreamMessage) -> AnyEvent | None:
        if operation_of(message.subject) is None:
            metrics.SKIPPED.inc()
            return None
        document = parse(message.body)
        if partition_of(room_of(document), self._partitions) not in self._inboxes:
            return None
        return decode(message, document)

    async def _until_room_or_hunger(self, inbox: Inbox) -> None:
        while inbox.full and inbox.failure is None and not self._anybody_hungry():
            self._moved.clear()
            await self._moved.wait()

    def _anybody_hungry(self) -> bool:
        return any(inbox.attached and not len(inbox) for inbox in self._inboxes.values())

    def _detach(self, inbox: Inbox) -> None:
        if self.place is not None and self.place.sequence > inbox.place.sequence:
            inbox.place = self.place
        inbox.attached = False
        self._start_catching_up(inbox)

    def _start_catching_up(self, inbox: Inbox) -> None:
        self._end_catching_up(inbox.partition)
        self._catching_up[inbox.partition] = self._tasks.create_task(self._catch_up(inbox))

    def _end_catching_up(self, partition: int) -> None:
        task = self._catching_up.pop(partition, None)
        self._ending = {ending for ending in self._ending if not ending.done()}
        if task is not None:
            task.cancel()
            self._ending.add(task)

    async def _catch_up(self, inbox: Inbox) -> None:
        """Read the stream for one partition until it meets the feed."""
        while inbox.failure is None:
            try:
                if await self._catch_up_once(inbox):
                    return
            except TransientError as error:
                log.warning("catching up, starting over", partition=inbox.partition, cause=str(error))
            await asyncio.sleep(_RETRY_SECONDS)

    async def _catch_up_once(self, inbox: Inbox) -> bool:
        await self._broker.until_connected()
        created_ns = inbox.place.created_ns
        if await resume_after(self._broker, self._stream, inbox.place) != inbox.place:
            inbox.fail(StreamChanged("re-made or shortened"))
            return True
        await self._note_expired(inbox.place)
        async with Consumer(self._broker, self._stream, inbox.place.sequence + 1) as reader:
            while True:
                for message in await reader.read():
                    event = self._decode(message)
                    if event is not None and partition_of(event.room_id, self._partitions) == inbox.partition:
                        await inbox.until_room()
                        if inbox.failure is not None:
                            return True
                        inbox.put(event)
                    inbox.place = StreamPosition(message.sequence, message.time_ns, created_ns)
                    if self.place is not None and inbox.place.sequence >= self.place.sequence:
                        inbox.attached = True
                        return True
