"""A replica: shows that it is alive, serves its partitions until it is stopped, and releases them."""

import asyncio
from collections import defaultdict
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from socket import gethostname
from typing import Final
from uuid import uuid4

from roomkeys.errors import TransientError
from roomkeys.events.position import StreamPosition
from roomkeys.subjects import events_stream
from store.database import Database
from store.leases import heartbeats
from store.leases.lease import Lease
from store.setup.indexes import ensure_indexes
from worker.broker.cancellation import cancel_and_wait
from worker.broker.connection import Broker
from worker.broker.fanout import Fanout
from worker.broker.jetstream.bootstrap import bootstrap_streams
from worker.clock import Clock
from worker.limits import Limits
from worker.pipeline.deliver import Publisher
from worker.pipeline.failures.batch_sizer import BatchSizer
from worker.pipeline.failures.blame import Blame
from worker.pipeline.failures.set_aside import SetAside
from worker.pipeline.letters.sender import DeadLetters, LetterContext
from worker.pipeline.loop import Loop
from worker.pipeline.rollouts.large_rooms import LargeRooms
from worker.pipeline.rollouts.passes import PassContext
from worker.pipeline.state.partition_state import PartitionState
from worker.pipeline.state.pending_results import PendingResults
from worker.pipeline.writer import Writer
from worker.process.shutdown import Shutdown
from worker.replica.erasure import erase_expired_keys
from worker.replica.events_stream import EventsStream
from worker.replica.feed import Feed
from worker.replica.partition import OpenLoop, Partition
from worker.replica.partitions import Partitions
from worker.replica.readiness.watch import Watch
from worker.settings import Settings
from worker.telemetry.health import Health
from worker.telemetry.logs import logger
from worker.telemetry.outage import Outage

_PRUNE_AFTER_MS: Final = 3_600_000
"""Milliseconds of silence after which the heartbeat document of a dead replica is deleted."""

log = logger("replica")


def new_replica_id() -> str:
    """Return the id of this process as a replica; it is never used again."""
    return f"{gethostname()}-{uuid4().hex[:8]}"


async def serve(
    settings: Settings,
    me: str,
    database: Database,
    broker: Broker,
    shutdown: Shutdown,
    health: Health,
    limits: Limits,
    clock: Clock,
) -> None:
    """Own partitions as the replica `me` until the process has to stop, then release them."""

    async def create_streams() -> None:
        if settings.bootstrap_streams:
            await bootstrap_streams(broker, site)

    site, outage = settings.site_id, Outage("MongoDB", log)
    open_loop = _loops(settings, database, broker, limits, clock)
    async with asyncio.TaskGroup() as tasks:
        stream = EventsStream(broker, events_stream(site), limits, create_streams)
        feed = Feed(stream, settings.partitions, tasks, limits)

        def open_partition(number: int) -> Partition:
            return Partition(number, site, me, database, feed, open_loop, limits, outage)

        feeding = tasks.create_task(feed.run())
        partitions = Partitions(site, me, database, open_partition, tasks, settings.partitions, limits.lease_ms)
        watch = Watch(partitions, feed, broker, outage, version("room-worker"), limits.lease_ms / 1_000, clock)
        health.checks.update(watch.checks())
        indexes = Outage("collections and indexes", log)
        health.checks["indexes"] = indexes.problem
        watching = tasks.create_task(watch.run(limits.heartbeat_s))
        looking = tasks.create_task(feed.keep_looking_ahead(limits.lease_ms / 2_000))
        ensuring = tasks.create_task(_keep_indexes(database, indexes, limits.ensure_s))
        erasing = tasks.create_task(erase_expired_keys(database, limits))
        try:
            await _own_partitions(partitions, watch, shutdown, limits)
            owned = partitions.running
            shutdown.has_batch = lambda: [partition.number for partition in owned if partition.has_batch]
            await shutdown.step("release the partitions", partitions.release_all, keep=3.0)
        finally:
            await partitions.end()
            await shutdown.step("stop reading", feed.close, keep=2.4)
            for task in (feeding, watching, looking, ensuring, erasing):
                await cancel_and_wait(task)
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


async def _keep_indexes(database: Database, outage: Outage, every_s: float) -> None:
    """Create collections and indexes again that somebody has dropped."""
    known: list[str] = []
    while True:
        await asyncio.sleep(every_s)
        try:
            warnings = await ensure_indexes(database)
        except TransientError as error:
            outage.failed(str(error))
            continue
        outage.ended()
        for warning in warnings:
            if warning not in known:
                log.warning("the database needs attention", problem=warning)
        known = warnings


async def _own_partitions(partitions: Partitions, watch: Watch, shutdown: Shutdown, limits: Limits) -> None:
    while not shutdown.stop.is_set() and not watch.broker.is_closed:
        try:
            await shutdown.unless_stopped(partitions.rebalance(watch.condition()))
        except TransientError as error:
            watch.database_outage.failed(str(error))
        else:
            watch.database_outage.ended()
        with suppress(TimeoutError):
            async with asyncio.timeout(limits.heartbeat_s):
                await shutdown.stop.wait()
