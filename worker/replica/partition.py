"""A partition while this replica owns it: taken, recovered, served, released.

After a transient error the partition ends its lease and takes the next one, after a growing pause. The partition
ends here only if another replica takes the lease, or if this replica releases it. (docs/design.md, rule c)
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from roomkeys.backoff import Backoff
from roomkeys.errors import DatabaseError, LeaseLost, Refused, TransientError, WriteConflict
from roomkeys.events.position import StreamPosition
from store.database import Database, Document
from store.leases.lease import CURSORS, Lease, is_lost, move_cursor, read_cursors, release_lease, take_lease
from worker.broker.connection import BrokerUnavailable, Unconfirmed
from worker.limits import Limits
from worker.pipeline.loop import Loop
from worker.pipeline.state.inbox import Inbox
from worker.replica.events_stream import changed
from worker.replica.feed import Backlog, Feed
from worker.replica.readiness.progress import Progress
from worker.telemetry import metrics
from worker.telemetry.logs import logger, where
from worker.telemetry.outage import Outage

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0

log = logger("partition")

OpenLoop = Callable[[Lease, StreamPosition, asyncio.Event], Loop]
"""Makes the loop of a new lease, from its cursor's position and the partition's wake-up."""

Served = tuple[int, StreamPosition]
"""The epoch of a lease, and how far the partition had come."""


@dataclass(slots=True, eq=False)
class Partition:
    """One partition of this replica. `number` counts the site's partitions from 0, `owner` is the replica's id."""

    number: int
    site: str
    owner: str
    database: Database
    feed: Feed
    open_loop: OpenLoop
    limits: Limits
    database_outage: Outage
    _wakeup: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _former_sessions: list[Any] = field(init=False, default_factory=list)
    _stopping: bool = field(init=False, default=False)
    has_batch: bool = field(init=False, default=False)
    """Whether a batch was begun and has not been finished, by this lease or the one before it."""
    progress: Progress = field(init=False, default_factory=Progress)
    orphan: Served | None = field(init=False, default=None)
    """What was served, if the cursor document has disappeared meanwhile."""
    _outage: Outage = field(init=False)
    _why: str = field(init=False, default="")
    _former: Served | None = field(init=False, default=None)
    _loop: Loop | None = field(init=False, default=None)
    _is_idle: bool = field(init=False, default=False)
    _is_lost: bool = field(init=False, default=False)
    _lost_to: Document | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._outage = Outage(f"partition {self.number}", log)

    def stop(self, why: str) -> None:
        """Let `run` finish the batch in hand, release the partition and return; the log says why."""
        self._stopping, self._why = True, self._why or why
        self._wakeup.set()

    @property
    def _goes_on(self) -> bool:
        """Tell whether to take the next lease: not after `stop`, unless a batch in hand is to be finished."""
        return self.has_batch or not self._stopping

    def look(self) -> None:
        """Note in `progress` whether the partition has moved since the last look."""
        loop, position = self._loop, None
        if loop is not None:
            position = loop.state.position
            if loop.blame.condition.cause is not None:
                self.progress.failed(loop.blame.condition.cause, is_refused=True)
        self.progress.look(position, is_idle=self._is_idle)
        if self.progress.cause is None:
            self._outage.ended()

    def backlog(self) -> Backlog:
        """Return the events of this partition that are read and not applied, with those of set-aside rooms."""
        backlog = self.feed.backlog(self.number)
        if self._loop is not None:
            set_aside = self._loop.state.set_aside
            backlog.events += set_aside.events
            backlog.oldest_ns = min(filter(None, (backlog.oldest_ns, set_aside.oldest_ns)), default=None)
        return backlog

    def notice_owner(self, document: Document | None) -> None:
        """End the lease at once if the cursor document, as read now, is gone or names another owner."""
        if self._loop is not None and (document is None or is_lost(self._loop.state.lease, document)):
            self._is_lost, self._lost_to = True, document
            self._wakeup.set()

    async def run(self, seen: Document) -> None:
        """Take the partition as its cursor document was `seen`, and serve it until stopped or fenced off."""
        document: Document | None = seen
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        try:
            while document is not None and self._goes_on:
                since = time.monotonic()
                if await self._serve_one_lease(document):
                    return
                if time.monotonic() - since > _LONGEST_PAUSE_S:
                    backoff.reset()
                document = await self._own_document(backoff.next())
            if document is None:
                self.has_batch = False  # the new owner finishes it
        finally:
            self.feed.forget(self.number)
            await self._end_former_sessions()

    async def _serve_one_lease(self, document: Document) -> bool:
        """Serve the partition under one lease; False if an error ended it and the next lease should follow."""
        try:
            await self._serve_under_lease(document)
        except LeaseLost:
            self.has_batch = False  # the new owner finishes it
            await self._report_loss()
        except TransientError as error:
            metrics.INTERRUPTIONS.labels(error.cause).inc()
            if isinstance(error, Unconfirmed):
                metrics.RETRIES.labels("unconfirmed").inc()
            self.progress.failed(str(error), is_refused=not isinstance(error, WriteConflict))
            self._report(error)
            return False
        except Exception as error:  # noqa: BLE001 - one partition's failure must not stop the others
            metrics.INTERRUPTIONS.labels("internal").inc()
            self.progress.failed(where(error), is_refused=False)
            self._outage.failed(where(error))
            return False
        return True

    def _report(self, error: TransientError) -> None:
        """Report what ended the lease, unless the broker or the feed reports it."""
        if isinstance(error, DatabaseError) and not isinstance(error, Refused | WriteConflict):
            self.database_outage.failed(str(error))  # no answer: all partitions have this outage together
        elif self.feed.stream.broker.connected and not isinstance(error, BrokerUnavailable):
            self._outage.failed(str(error))

    async def _report_loss(self) -> None:
        """Log which replica owns the partition now, if this one has served it."""
        if self._former is None:  # another replica was faster to take it
            return
        owner, epoch = "unknown", None
        try:
            document = self._lost_to or await self._read_document()
        except TransientError as error:
            log.debug("cannot read who owns the partition", partition=self.number, cause=str(error))
        else:
            if document is None:
                return
            owner, epoch = document["owner"] or "nobody", document["epoch"]
        log.warning("lease of the partition lost", partition=self.number, epoch=epoch, owner=owner)

    async def _own_document(self, pause: float) -> Document | None:
        """Return, after a pause, the cursor document if it still names this replica as its owner.

        Without a connection to NATS, pause again: the next lease could do nothing.
        """
        while self._goes_on:
            await asyncio.sleep(pause)
            if not self.feed.stream.broker.connected:
                continue
            try:
                document = await self._read_document()
            except TransientError as error:
                self.database_outage.failed(str(error))
                continue
            return document if document is not None and document["owner"] == self.owner else None
        return None

    async def _read_document(self) -> Document | None:
        """Return the partition's cursor document. If it is gone, return None and set `orphan`."""
        documents = await read_cursors(self.database, self.site)
        document = next((item for item in documents if item["partition"] == self.number), None)
        if document is None and self._former is not None:
            self.orphan = self._former
            log.error("cursor of the partition is gone", partition=self.number, collection=CURSORS)
        return document

    async def _serve_under_lease(self, document: Document) -> None:
        lease, position = await take_lease(self.database, document, self.owner)
        self._is_lost, self._lost_to, self._former = False, None, (lease.epoch, position)
        await self._end_former_sessions()
        log.info("partition taken", partition=self.number, epoch=lease.epoch, after=position.sequence)
        self._loop = loop = self.open_loop(lease, position, self._wakeup)
        try:
            await loop.recover()
            self.has_batch = False
            await self._finish_slices(loop)
            if not self._stopping:
                await self._find_position(loop)
                await self._serve(loop)
            if self._is_lost:
                raise LeaseLost
            await loop.writer.delete_finished()
            await loop.close()
            await release_lease(self.database, lease)
            log.info("partition released", partition=self.number, why=self._why)
        finally:
            self._loop, self._former = None, (lease.epoch, loop.state.position)
            metrics.LAG.labels(str(self.number)).set(0)
            metrics.SET_ASIDE.labels(str(self.number)).set(0)
            self.feed.leave(self.number)
            await loop.close()
            self._former_sessions.append(lease.session)

    async def _end_former_sessions(self) -> None:
        """End the sessions of former leases, only now: the driver reuses the id of an ended session.

        As long as the cursor document names a session, the next `take` kills it, and with it the transaction of
        whatever reuses its id.
        """
        while self._former_sessions:
            await self._former_sessions.pop().end_session()

    async def _find_position(self, loop: Loop) -> None:
        """Find where to read on; if the stream has changed, move the cursor to where it goes on."""
        position = loop.state.position
        found = await self.feed.find_position(position)
        if found != position:
            metrics.STREAM_FAULTS.inc()
            cause, resumes_after = changed(position, found), found.sequence
            log.error("the events stream changed", partition=self.number, cause=cause, resumes_after=resumes_after)
            await self._move(loop, found)

    async def _serve(self, loop: Loop) -> None:
        """Run batches while there are events; settle, tidy and follow the feed while there are none."""
        state, limits = loop.state, self.limits
        inbox = self.feed.join(self.number, state.position, self._wakeup)
        while not self._stopping:
            self._wakeup.clear()
            if self._is_lost:
                return
            await loop.settle_rollouts()
            await loop.retry_set_aside()
            await self._finish_slices(loop)
            pause = state.set_aside.seconds_until_due(limits.tidy_s if state.finished_ids else limits.follow_s)
            if state.pending.is_full or state.large_rooms.is_full:
                await inbox.wait_for_wakeup(pause)
            elif await self._wait(inbox, pause):
                await self._serve_batch(loop, inbox)
            elif state.finished_ids:
                await loop.writer.delete_finished()
            else:  # idle: move the cursor to the feed's position
                position = self.feed.position_of(inbox)
                if not len(inbox) and position.sequence > state.position.sequence:
                    await self._move(loop, position)

    async def _wait(self, inbox: Inbox, seconds: float) -> bool:
        self._is_idle = True
        try:
            return await inbox.wait(seconds)
        finally:
            self._is_idle = False

    async def _serve_batch(self, loop: Loop, inbox: Inbox) -> None:
        waiting = metrics.LAG.labels(str(self.number))
        waiting.set(len(inbox))
        await inbox.drain_ready()
        self.has_batch = True
        await loop.run_batch(inbox)
        await self._finish_slices(loop)
        self.has_batch = False
        inbox.discard_through(loop.state.position.sequence)
        waiting.set(len(inbox))

    async def _finish_slices(self, loop: Loop) -> None:
        """Apply an event that has been applied in part to its end: it goes before everything else."""
        while loop.state.partial is not None and not self._stopping:
            await loop.run_slice()

    async def _move(self, loop: Loop, position: StreamPosition) -> None:
        await move_cursor(self.database, loop.state.lease, loop.state.position, position)
        loop.state.advance(position)
