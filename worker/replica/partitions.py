"""The partitions that this replica owns: it takes its fair share, and notices at once when another replica took one.

The database's clock decides which replicas are alive. A partition is free to take if it has no owner, or if its
owner was silent for longer than a lease, or is unable. No clock decides whether the previous owner may still write:
the fence does. (docs/design.md, "Partitions")
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from store.database import Database, Document
from store.leases import heartbeats
from store.leases.heartbeats import Condition
from store.leases.lease import CursorsMissing, abandon_lease, read_cursors, restore_cursor
from store.setup.indexes import ensure_indexes
from worker.broker.cancellation import cancel_and_wait
from worker.replica.partition import Partition, Served
from worker.replica.shares import claimable, fair_share, serving_ids
from worker.telemetry import metrics
from worker.telemetry.logs import logger

log = logger("replica")


@dataclass(slots=True, eq=False)
class Partitions:
    """The partitions that this replica, `me`, owns of a site. Each one runs in a separate task."""

    site: str
    me: str
    database: Database
    open_partition: Callable[[int], Partition]
    tasks: asyncio.TaskGroup
    count: int
    lease_ms: int
    problem: str | None = field(init=False, default=None)
    """Why some partitions cannot be served by any replica."""
    _running: dict[int, tuple[Partition, asyncio.Task[None]]] = field(init=False, default_factory=dict)
    _orphans: dict[int, Served] = field(init=False, default_factory=dict)
    _asked_at: float | None = field(init=False, default=None)

    @property
    def running(self) -> list[Partition]:
        """Return the partitions that this replica serves, or tries to."""
        return [partition for partition, _ in self._running.values()]

    @property
    def waits_s(self) -> float:
        """Return for how many seconds the database has not answered `rebalance`; 0 while nothing is asked."""
        return 0.0 if self._asked_at is None else monotonic() - self._asked_at

    async def rebalance(self, condition: Condition) -> None:
        """Send a heartbeat; take free partitions up to the fair share, and release those above it."""
        self._asked_at = monotonic()
        try:
            await heartbeats.heartbeat(self.database, self.site, self.me, condition)
            serving = serving_ids(await heartbeats.replicas(self.database, self.site), self.lease_ms)
            documents = await read_cursors(self.database, self.site)
            self._notice_owners(documents)
            await self._restore_cursors(documents)
            await self._take_and_release(documents, serving)
        finally:
            self._asked_at = None

    async def _take_and_release(self, documents: Sequence[Document], serving: Sequence[str]) -> None:
        share = fair_share(serving, self.me, self.count)
        idle = [document for document in documents if document["partition"] not in self._running]
        room, available = max(share - len(self._running), 0), claimable(idle, serving, self.me)
        for document in available[:room]:
            self._start(document)
        for document in available[room:]:
            if document["owner"] == self.me:  # an error interrupted its release
                await abandon_lease(self.database, document)
        for partition in self.running[share:]:
            partition.stop("rebalance")
        metrics.PARTITIONS.set(len(self._running))

    async def release_all(self) -> None:
        """Finish the batches in hand and release every partition."""
        for partition in self.running:
            partition.stop("shutdown")
        if self._running:
            await asyncio.wait([task for _, task in self._running.values()])
        self._forget_finished()
        metrics.PARTITIONS.set(0)

    async def end(self) -> None:
        """Cancel what still runs; other replicas take the partitions that were not released."""
        for partition in self.running:
            partition.stop("shutdown")
        await asyncio.gather(*(cancel_and_wait(task) for _, task in self._running.values()))

    def _notice_owners(self, documents: Sequence[Document]) -> None:
        """Let partitions know at once that another replica owns them, as after this process was paused."""
        by_partition = {document["partition"]: document for document in documents}
        for partition in self.running:
            partition.notice_owner(by_partition.get(partition.number))
        self._forget_finished()

    async def _restore_cursors(self, documents: Sequence[Document]) -> None:
        """Write cursors again that were deleted while this replica served their partitions."""
        missing = set(range(self.count)) - {document["partition"] for document in documents} - self._running.keys()
        self._orphans = {number: served for number, served in self._orphans.items() if number in missing}
        if self._orphans:
            await ensure_indexes(self.database)  # the whole database may be gone
        for number, (epoch, position) in self._orphans.items():
            await restore_cursor(self.database, self.site, self.count, number, epoch, position)
            log.warning("cursor written again from memory", partition=number, applied=position.sequence)
        nobodys = sorted(missing - self._orphans.keys())
        self.problem = str(CursorsMissing(nobodys)) if nobodys else None

    def _start(self, document: Document) -> None:
        partition = self.open_partition(document["partition"])
        self._running[partition.number] = (partition, self.tasks.create_task(partition.run(document)))

    def _forget_finished(self) -> None:
        self._orphans |= {
            number: partition.orphan
            for number, (partition, task) in self._running.items()
            if task.done() and partition.orphan is not None
        }
        self._running = {number: running for number, running in self._running.items() if not running[1].done()}
