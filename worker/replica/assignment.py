"""A replica: shows that it is alive and owns its fair share of the partitions.

Who is alive is the database's clock's word. A partition without an owner, or whose owner has been silent for
longer than a lease, is free to take; nobody's clock decides whether its former owner may still write, the
fence does. (design.md, "Partitions")
"""

import asyncio
from collections.abc import Sequence
from socket import gethostname
from time import monotonic
from typing import Final
from uuid import uuid4

from roomkeys.errors import TransientError, Unexpected
from roomkeys.subjects import events_stream
from store.database import Database, Document
from store.leases import heartbeats, lease
from store.leases.heartbeats import Replica
from worker.broker.cancellation import cancel_and_wait
from worker.broker.connection import Broker
from worker.broker.fanout import Fanout
from worker.pipeline.deliver import Publisher
from worker.pipeline.large_rooms import CONCURRENT_PASSES, PassContext
from worker.pipeline.tools import Tools
from worker.replica.feed import Feed
from worker.replica.partition import Partition
from worker.settings import Settings
from worker.telemetry import metrics
from worker.telemetry.logs import logger

LEASE_MS: Final = 5_000
"""How long a replica may be silent, in milliseconds, until its partitions are free to take."""

LOOK_SECONDS: Final = 0.5
"""How often a replica gives a sign of life and looks at the partitions."""

_FORGET_MS: Final = 3_600_000

log = logger("replica")


class Partitions:
    """The partitions of this replica, each in a task of its own."""

    def __init__(self, tools: Tools, tasks: asyncio.TaskGroup) -> None:
        self._tools = tools
        self._tasks = tasks
        self._running: dict[int, tuple[Partition, asyncio.Task[None]]] = {}

    async def rebalance(self) -> None:
        """Give a sign of life, take what is free while below the fair share, hand over what is above it."""
        database, site, me = self._tools.database, self._tools.site, self._tools.owner
        await heartbeats.heartbeat(database, site, me)
        alive = alive_ids(await heartbeats.replicas(database, site))
        documents = await lease.cursors(database, site)
        self._forget_finished()
        share = fair_share(alive, me, len(documents))
        idle = [document for document in documents if document["partition"] not in self._running]
        room, available = max(share - len(self._running), 0), claimable(idle, alive, me)
        for document in available[:room]:
            self._start(document)
        for document in available[room:]:
            if document["owner"] == me:  # interrupted while it was to be handed over
                await lease.give_up(database, document)
        for partition, _ in list(self._running.values())[share:]:
            partition.stop()
        metrics.PARTITIONS.set(len(self._running))

    def step_down(self) -> None:
        """Stop every partition and give no sign of life: who cannot reach the broker leaves them to others."""
        for partition, _ in self._running.values():
            partition.stop()
        self._forget_finished()
        metrics.PARTITIONS.set(len(self._running))

    async def hand_over(self) -> None:
        """Finish the batches in hand and hand every partition over."""
        for partition, _ in self._running.values():
            partition.stop()
        if self._running:
            await asyncio.wait([task for _, task in self._running.values()])
        self._forget_finished()
        metrics.PARTITIONS.set(0)

    async def end(self) -> None:
        """Let nothing of this replica go on; what was not handed over is for others to take."""
        for partition, task in self._running.values():
            partition.stop()
            await cancel_and_wait(task)

    def _start(self, document: Document) -> None:
        partition = Partition(document["partition"], self._tools)
        self._running[partition.number] = (partition, self._tasks.create_task(partition.run(document)))

    def _forget_finished(self) -> None:
        self._running = {number: running for number, running in self._running.items() if not running[1].done()}


async def serve(settings: Settings, database: Database, broker: Broker, stop: asyncio.Event) -> None:
    """Own partitions until `stop` is set, then hand them over."""
    me = f"{gethostname()}-{uuid4().hex[:8]}"
    async with asyncio.TaskGroup() as tasks:
        feed = Feed(broker, events_stream(settings.site_id), settings.partitions, tasks)
        courier = Publisher(broker, database, Fanout(broker, settings.key_fanout_workers), settings.site_id)
        passes = PassContext(broker, database, courier.fanout, asyncio.Semaphore(CONCURRENT_PASSES))
        tools = Tools(settings, database, broker, feed, courier, passes, me)
        feeding = tasks.create_task(feed.run())
        partitions = Partitions(tools, tasks)
        try:
            await _own_partitions(partitions, broker, stop)
        finally:
            await partitions.end()
            await feed.close()
            await cancel_and_wait(feeding)
    try:
        await heartbeats.leave(database, me)
        await heartbeats.prune(database, settings.site_id, _FORGET_MS)
    except (TransientError, Unexpected) as error:
        log.warning("left without a word", cause=str(error))


async def _own_partitions(partitions: Partitions, broker: Broker, stop: asyncio.Event) -> None:
    reached = monotonic()
    while not stop.is_set():
        if broker.client.is_closed:  # which the client may not live to tell
            broker.closed.set()
            return
        if broker.connected:
            reached = monotonic()
        try:
            if monotonic() - reached > LEASE_MS / 1_000:
                partitions.step_down()
            else:
                await partitions.rebalance()
        except (TransientError, Unexpected) as error:
            log.warning("database out of reach", cause=str(error))
        try:
            await asyncio.wait_for(stop.wait(), LOOK_SECONDS)
        except TimeoutError:
            continue
    await partitions.hand_over()


def alive_ids(known: Sequence[Replica]) -> list[str]:
    """Return the ids of the replicas that are alive, in order.

    A sign of life from the future is a former primary's clock's: whoever lives gives another one at once.
    """
    return sorted(replica.id for replica in known if abs(replica.silent_ms) < LEASE_MS)


def fair_share(alive: Sequence[str], me: str, partitions: int) -> int:
    """Return how many partitions a replica should own; the shares of all add up to all partitions."""
    if me not in alive:
        return 0
    whole, left_over = divmod(partitions, len(alive))
    return whole + (alive.index(me) < left_over)


def claimable(documents: Sequence[Document], alive: Sequence[str], me: str) -> list[Document]:
    """Return the cursor documents whose partition nobody alive serves, or that this replica has dropped."""
    return [document for document in documents if document["owner"] not in alive or document["owner"] == me]
