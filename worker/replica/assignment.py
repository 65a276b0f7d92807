"""A replica: shows that it is alive and owns its fair share of the partitions.

The database's clock decides which replicas are alive. A partition is free to take if it has no owner, or if its
owner was silent for longer than a lease. No clock decides whether the previous owner may still write: the fence
does. (docs/design.md, "Partitions")
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from socket import gethostname
from typing import Final
from uuid import uuid4

from roomkeys.errors import TransientError
from roomkeys.events.position import StreamPosition
from roomkeys.subjects import events_stream
from store.database import Database, Document
from store.leases import heartbeats
from store.leases.heartbeats import Replica
from store.leases.lease import Lease, abandon_lease, read_cursors
from worker.broker.bootstrap import bootstrap_streams
from worker.broker.cancellation import cancel_and_wait
from worker.broker.connection import Broker
from worker.broker.fanout import Fanout
from worker.clock import Clock
from worker.limits import Limits
from worker.pipeline.batch_sizer import BatchSizer
from worker.pipeline.blame import Blame
from worker.pipeline.dead_letters import DeadLetters, LetterContext
from worker.pipeline.deliver import Publisher
from worker.pipeline.large_rooms import LargeRooms
from worker.pipeline.loop import Loop
from worker.pipeline.partition_state import PartitionState
from worker.pipeline.passes import PassContext
from worker.pipeline.pending_results import PendingResults
from worker.pipeline.set_aside import SetAside
from worker.pipeline.writer import Writer
from worker.replica.events_stream import EventsStream
from worker.replica.feed import Feed
from worker.replica.partition import OpenLoop, Partition
from worker.settings import Settings
from worker.shutdown import Shutdown
from worker.telemetry import metrics
from worker.telemetry.health import Health
from worker.telemetry.logs import logger

_PRUNE_AFTER_MS: Final = 3_600_000
"""Milliseconds of silence after which the heartbeat document of a dead replica is deleted."""

log = logger("replica")


@dataclass(slots=True, eq=False)
class Partitions:
    """The partitions that this replica, `me`, owns of a site. Each one runs in a separate task."""

    site: str
    me: str
    database: Database
    open_partition: Callable[[int], Partition]
    tasks: asyncio.TaskGroup
    lease_ms: int
    _running: dict[int, tuple[Partition, asyncio.Task[None]]] = field(init=False, default_factory=dict)

    async def rebalance(self) -> None:
        """Send a heartbeat; take free partitions up to the fair share, and release those above it."""
        await heartbeats.heartbeat(self.database, self.site, self.me)
        alive = alive_ids(await heartbeats.replicas(self.database, self.site), self.lease_ms)
        documents = await read_cursors(self.database, self.site)
        self._forget_finished()
        for document in documents:
            if document["partition"] in self._running:
                self._running[document["partition"]][0].observe(document)
        share = fair_share(alive, self.me, len(documents))
        idle = [document for document in documents if document["partition"] not in self._running]
        room, available = max(share - len(self._running), 0), claimable(idle, alive, self.me)
        for document in available[:room]:
            partition = self.open_partition(document["partition"])
            self._running[partition.number] = (partition, self.tasks.create_task(partition.run(document)))
        for document in available[room:]:
            if document["owner"] == self.me:  # an error interrupted its release
                await abandon_lease(self.database, document)
        for partition, _ in list(self._running.values())[share:]:
            partition.stop()
        metrics.PARTITIONS.set(len(self._running))

    def step_down(self) -> None:
        """Stop every partition and send no heartbeat, so that other replicas take the partitions."""
        for partition, _ in self._running.values():
            partition.stop()
        self._forget_finished()

    async def release_all(self) -> None:
        """Finish the batches in hand and release every partition."""
        self.step_down()
        if self._running:
            await asyncio.wait([task for _, task in self._running.values()])
        self._forget_finished()

    async def end(self) -> None:
        """Cancel what still runs; other replicas take the partitions that were not released."""
        for partition, _ in self._running.values():
            partition.stop()
        await asyncio.gather(*(cancel_and_wait(task) for _, task in self._running.values()))

    def owned(self) -> list[Partition]:
        """Return the partitions that run now."""
        return [partition for partition, _ in self._running.values()]

    def _forget_finished(self) -> None:
        self._running = {number: running for number, running in self._running.items() if not running[1].done()}
        metrics.PARTITIONS.set(len(self._running))


async def serve(
    settings: Settings,
    database: Database,
    broker: Broker,
    shutdown: Shutdown,
    health: Health,
    limits: Limits,
    clock: Clock,
) -> None:
    """Own partitions until the process has to stop, then release them."""

    async def create_streams() -> None:
        if settings.bootstrap_streams:
            await bootstrap_streams(broker, site)

    site, me = settings.site_id, f"{gethostname()}-{uuid4().hex[:8]}"
    open_loop = _loops(settings, database, broker, limits, clock)
    async with asyncio.TaskGroup() as tasks:
        stream = EventsStream(broker, events_stream(site), limits, create_streams)
        health.checks["events"] = lambda: stream.outage.problem(limits.lease_ms / 1_000)
        feed = Feed(stream, settings.partitions, tasks, limits)

        def open_partition(number: int) -> Partition:
            return Partition(number, site, me, database, feed, open_loop, limits)

        feeding = tasks.create_task(feed.run())
        partitions = Partitions(site, me, database, open_partition, tasks, limits.lease_ms)
        try:
            await _own_partitions(partitions, stream, shutdown, limits)
            owned = partitions.owned()
            shutdown.has_batch = lambda: [partition.number for partition in owned if partition.has_batch]
            await shutdown.step("release the partitions", partitions.release_all, keep=3.0)
        finally:
            await partitions.end()
            await shutdown.step("stop reading", feed.close, keep=2.4)
            await cancel_and_wait(feeding)
    await shutdown.step("delete the heartbeat", partial(_leave, database, site, me), keep=2.0)


async def _leave(database: Database, site: str, me: str) -> None:
    try:
        await heartbeats.leave(database, me)
        await heartbeats.prune(database, site, _PRUNE_AFTER_MS)
    except TransientError as error:
        log.warning("could not delete this replica's heartbeat", cause=str(error))


def _loops(settings: Settings, database: Database, broker: Broker, limits: Limits, clock: Clock) -> OpenLoop:
    """Return what makes the loop of a new lease; the fan-out and its bounds are shared by all partitions."""
    fanout = Fanout(broker, settings.key_fanout_workers)
    publisher = Publisher(broker, database, fanout, settings.site_id, limits)
    slots = asyncio.Semaphore(limits.concurrent_passes)
    context = PassContext(broker, database, fanout, slots, limits, clock)
    letter_context = LetterContext(broker, database, settings.site_id, limits)
    sizers: defaultdict[int, BatchSizer] = defaultdict(partial(BatchSizer, settings.max_batch_events, limits))

    def open_loop(lease: Lease, position: StreamPosition, wakeup: asyncio.Event) -> Loop:
        large_rooms = LargeRooms(context, lease, wakeup.set)
        pending, set_aside = PendingResults(limits.deferred_results), SetAside(lease, limits)
        state = PartitionState(lease, position, large_rooms, pending, set_aside)
        writer = Writer(state, database, limits, database.clock.now_ms, settings.site_id, settings.grace_ms)
        blame = Blame.of(state, writer, sizers[lease.partition], limits)
        letters = DeadLetters(letter_context, lease)
        return Loop(state, writer, publisher, broker, database, blame, letters, limits, clock)

    return open_loop


async def _own_partitions(partitions: Partitions, stream: EventsStream, shutdown: Shutdown, limits: Limits) -> None:
    """Rebalance with each heartbeat, but leave the partitions to others while no event can be read."""
    broker, stop = stream.broker, shutdown.stop
    while not stop.is_set():
        if broker.is_closed:
            return
        try:
            if max(broker.outage.seconds, stream.outage.seconds) > limits.lease_ms / 1_000:
                partitions.step_down()
            else:
                await shutdown.unless_stopped(partitions.rebalance())
        except TransientError as error:
            log.warning("cannot reach MongoDB", cause=str(error))
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), limits.heartbeat_s)


def alive_ids(known: Sequence[Replica], lease_ms: int) -> list[str]:
    """Return the ids of the replicas that are alive, in order.

    A heartbeat in the future comes from the clock of a former primary; a replica that is alive soon replaces it.
    """
    return sorted(replica.id for replica in known if abs(replica.silent_ms) < lease_ms)


def fair_share(alive: Sequence[str], me: str, partitions: int) -> int:
    """Return how many partitions a replica should own; the shares of all add up to all partitions."""
    if me not in alive:
        return 0
    whole, left_over = divmod(partitions, len(alive))
    return whole + (alive.index(me) < left_over)


def claimable(documents: Sequence[Document], alive: Sequence[str], me: str) -> list[Document]:
    """Return the cursor documents without a live owner, and those that name this replica, which dropped them."""
    return [document for document in documents if document["owner"] not in alive or document["owner"] == me]
