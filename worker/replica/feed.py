"""The feed: one reading of the stream for all partitions of a replica.

It hands each event to its partition's inbox. A full inbox blocks the feed only as long as no other inbox is empty.
As soon as one is, the full inbox is detached and catches up with a separate consumer, until it reaches the feed's
position. So a slow partition delays no other, and memory stays bounded. (docs/design.md, "Partitions")
"""

import asyncio
from dataclasses import dataclass, replace
from typing import Final

from roomkeys.backoff import NO_JITTER, Backoff
from roomkeys.errors import TransientError
from roomkeys.events.decode import decode, parse, room_of
from roomkeys.events.event import AnyEvent, StreamMessage
from roomkeys.events.position import StreamPosition, partition_of
from roomkeys.subjects import operation_of
from worker.broker.cancellation import cancel_and_wait
from worker.broker.jetstream.consumer import Consumer, ConsumerFailed
from worker.broker.jetstream.stream import TooManyConsumers
from worker.limits import Limits
from worker.pipeline.state.inbox import Inbox
from worker.replica.events_stream import RETRY_SECONDS, EventsStream, StreamChanged
from worker.telemetry import metrics
from worker.telemetry.logs import logger
from worker.telemetry.outage import Outage

_UNUSED_RETRY_S: Final = 5.0

log = logger("feed")


@dataclass(slots=True)
class Backlog:
    """The events that wait for a partition, and the broker's time of the first one (epoch ns), if it is known.

    `through` is the last message that was counted.
    """

    events: int = 0
    oldest_ns: int | None = None
    through: int = 0

    def count(self, message: StreamMessage) -> None:
        """Count a message that the feed reads while the partition is in no state to take it."""
        if message.sequence > self.through:
            self.events += 1
            self.oldest_ns = self.oldest_ns or message.time_ns
            self.through = message.sequence


class Feed:
    """Reads the stream once and fills the inboxes of the partitions that joined.

    `position` is the last message that the feed has read, None before the first partition joins.
    """

    def __init__(self, stream: EventsStream, partitions: int, tasks: asyncio.TaskGroup, limits: Limits) -> None:
        self.stream = stream
        self.position: StreamPosition | None = None
        self._tasks = tasks
        self._partitions = partitions
        self._limits = limits
        self._inboxes: dict[int, Inbox] = {}
        self._absent: dict[int, Backlog] = {}
        self._catching_up: dict[int, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._joined = asyncio.Event()
        self._space = asyncio.Event()
        self._consumer: Consumer | None = None
        self._may_detach = True
        self._is_blocked = False
        self._behind: list[Inbox] = []
        self._catch_up_outage = Outage("catching up with the events stream", log)

    async def find_position(self, position: StreamPosition) -> StreamPosition:
        """Return where a partition at `position` reads on: the same, unless the stream has changed since.

        If that cannot be found out, the feed tries to read from `position` until it can.
        """
        try:
            return await self.stream.find_position(position)
        except TransientError as error:
            await self.stream.report(error, position)
            if self.position is None:
                self.position = position
                self._joined.set()
            raise

    def join(self, partition: int, position: StreamPosition, wakeup: asyncio.Event) -> Inbox:
        """Return an inbox that gets the partition's events after `position`, and sets `wakeup` for each."""
        inbox = Inbox(partition, position, self._limits, wakeup=wakeup, space=self._space)
        self._inboxes[partition] = inbox
        self._absent.pop(partition, None)
        if self.position is None:
            self.position = position
        if position.created_ns != self.position.created_ns:
            inbox.fail(StreamChanged("the stream was re-created after this position was found"))
        elif position.sequence >= self.position.sequence:
            inbox.attach()
        else:
            self._start_catching_up(inbox)
        self._joined.set()
        self._space.set()  # the new inbox is empty, so a full one no longer blocks the feed
        return inbox

    def leave(self, partition: int) -> None:
        """Stop feeding the partition, and go on counting its events until `join` or `forget`."""
        inbox = self._inboxes.get(partition)
        if inbox is not None:
            self._absent[partition] = self.backlog(partition)
            del self._inboxes[partition]
            inbox.fail(ConsumerFailed("the partition has left the feed"))
        self._end_catching_up(partition)

    def forget(self, partition: int) -> None:
        """Stop counting the events of a partition that this replica no longer owns."""
        self.leave(partition)
        self._absent.pop(partition, None)

    def backlog(self, partition: int) -> Backlog:
        """Return what has been read for a partition and is not applied.

        While the partition catches up, all messages that it still has to read count, also those of others.
        """
        inbox, read = self._inboxes.get(partition), 0 if self.position is None else self.position.sequence
        if inbox is None:
            return replace(self._absent.get(partition, Backlog()))
        skipped = 0 if inbox.is_attached else max(read - inbox.position.sequence, 0)
        return Backlog(len(inbox) + skipped, inbox.oldest_ns, read)

    @property
    def unread(self) -> int:
        """Return how many messages of the stream have not been read for any partition, as far as that is known."""
        if self.position is None:
            return 0
        end = 0 if self._consumer is None else self._consumer.end
        return max(end - self.position.sequence, self.stream.unread_through - self.position.sequence, 0)

    async def keep_looking_ahead(self, every_s: float) -> None:
        """Find out now and then what waits in the stream, while the feed cannot read on or waits for an inbox."""
        while True:
            await asyncio.sleep(every_s)
            if self.position is not None and (self._is_blocked or self.stream.outage.cause is not None):
                await self.stream.look_ahead(self.position.sequence)

    async def close(self) -> None:
        """Stop feeding all partitions."""
        for partition in list(self._inboxes):
            self.leave(partition)
        for task in self._ending:
            await cancel_and_wait(task)

    def position_of(self, inbox: Inbox) -> StreamPosition:
        """Return how far the stream has been read for the inbox's partition."""
        if inbox.is_attached and self.position is not None and self.position.sequence > inbox.position.sequence:
            return self.position
        return inbox.position

    async def run(self) -> None:
        """Read the stream until cancelled; after each failure again from the last message that arrived."""
        unused = Backoff(RETRY_SECONDS, _UNUSED_RETRY_S, spread=NO_JITTER)
        while True:
            await self._joined.wait()
            try:
                await self._read()
            except StreamChanged as error:
                self._start_over(error)
            except TransientError as error:
                await self.stream.report(error, self.position)
            if self._inboxes or self.stream.outage.cause is None:
                unused.reset()
            if not self._behind:  # else another replica could take the only consumer
                # Without partitions it only finds out whether it can read again. It leaves the consumer to others.
                await asyncio.sleep(unused.next())

    async def _read(self) -> None:
        position = self.position = self._first_position()
        if position is None:
            self._joined.clear()
            return
        async with await self.stream.consumer_after(position) as self._consumer:
            await self._consumer.until_heard()
            self.stream.is_read()
            while not self._behind:
                for message in await self._consumer.read():
                    await self._route(message, position.created_ns)

    def _first_position(self) -> StreamPosition | None:
        """Return where to read on: from the first inbox that is behind and has no consumer to catch up with."""
        behind = [inbox for inbox in self._behind if inbox.failure is None]
        self._behind.clear()
        for inbox in behind:
            inbox.attach()
        known = [self.position, *(inbox.position for inbox in behind)]
        return min(filter(None, known), key=lambda position: position.sequence, default=None)

    def _start_over(self, error: StreamChanged) -> None:
        log.error("the events stream changed", cause=str(error), stream=self.stream.name)
        self.stream.is_read()
        self.position = None
        self._consumer = None
        self._behind.clear()
        self._joined.clear()
        for inbox in self._inboxes.values():
            inbox.fail(error)

    async def _route(self, message: StreamMessage, created_ns: int) -> None:
        """Offer a message to its partition's inbox; an inbox that stays full is detached and catches up."""
        position = StreamPosition(message.sequence, message.time_ns, created_ns)
        if operation_of(message.subject) is None:
            metrics.SKIPPED.inc()  # here only: partitions that catch up read the same message again
        routed = self._decode(message)
        if routed is not None:
            inbox, event = routed
            if inbox.is_attached and message.sequence > inbox.position.sequence:
                await self._wait_for_space(inbox)
                if inbox.failure is None and not inbox.offer(event, position):
                    inbox.detach(self.position or inbox.position)
                    self._start_catching_up(inbox)
        self.position = position

    def _decode(self, message: StreamMessage) -> tuple[Inbox, AnyEvent] | None:
        """Return the event and its partition's inbox; None for other services' events and other partitions."""
        if operation_of(message.subject) is None:
            return None
        document = parse(message.body)
        partition = partition_of(room_of(document), self._partitions)
        if absent := self._absent.get(partition):
            absent.count(message)
        inbox = self._inboxes.get(partition)
        event = None if inbox is None else decode(message, document)
        return None if inbox is None or event is None else (inbox, event)

    async def _wait_for_space(self, inbox: Inbox) -> None:
        """Wait while the inbox is full, unless another inbox is empty."""
        while inbox.is_full and inbox.failure is None and not (self._may_detach and self._any_inbox_empty()):
            self._space.clear()
            self._is_blocked = True
            await self._space.wait()
        self._is_blocked = False

    def _any_inbox_empty(self) -> bool:
        return any(inbox.is_attached and not len(inbox) for inbox in self._inboxes.values())

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
        """Read the stream for one partition until it reaches the feed's position."""
        while inbox.failure is None:
            try:
                async with await self.stream.consumer_after(inbox.position) as consumer:
                    await consumer.until_heard()
                    self._catch_up_outage.ended()
                    while True:
                        for message in await consumer.read():
                            if await self._catch_up_with(inbox, message):
                                return
            except StreamChanged as error:
                inbox.fail(error)
                return
            except TooManyConsumers as error:
                self._catch_up_without_consumer(inbox, error)
                return
            except TransientError as error:
                if self.stream.broker.connected:
                    self._catch_up_outage.failed(str(error), partition=inbox.partition)
            await asyncio.sleep(RETRY_SECONDS)

    def _catch_up_without_consumer(self, inbox: Inbox, error: TooManyConsumers) -> None:
        """Let the feed read again from the inbox's position: the other inboxes skip what they have had."""
        log.warning("one consumer for all partitions: a slow one delays the others", cause=str(error))
        self._may_detach = False
        self._behind.append(inbox)
        if self._consumer is not None:
            self._consumer.interrupt()

    async def _catch_up_with(self, inbox: Inbox, message: StreamMessage) -> bool:
        """Put one message into the inbox; tell whether that ends the catch-up."""
        position = StreamPosition(message.sequence, message.time_ns, inbox.position.created_ns)
        routed = self._decode(message)
        if routed is not None and routed[0] is inbox:
            await inbox.wait_for_space()
            if inbox.failure is not None:
                return True
            inbox.offer(routed[1], position)
        else:
            inbox.pass_over(position)
        if self.position is not None and position.sequence >= self.position.sequence:
            inbox.attach()
            return True
        return False
