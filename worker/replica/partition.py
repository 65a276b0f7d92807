"""A partition while this replica owns it: taken, recovered, served, handed over.

Every passing failure ends the lease and begins another one, a little later each time; only somebody else's
lease ends the partition here. (design.md, rule c)
"""

import asyncio
import time
from random import uniform
from typing import Any, Final

from roomkeys.errors import LeaseLost, TransientError, Unexpected
from roomkeys.events.position import StreamPosition
from roomkeys.subjects import events_stream
from store.database import Document
from store.leases import lease as cursors
from worker.broker.stream import resume_after
from worker.pipeline.batch_limits import BatchSizer
from worker.pipeline.inbox import Inbox
from worker.pipeline.loop import Loop
from worker.pipeline.tools import Tools
from worker.telemetry import metrics
from worker.telemetry.logs import logger, where

FOLLOW_SECONDS: Final = 5.0
"""How often an idle partition's cursor follows the feed."""

_TIDY_SECONDS: Final = 1.0
_SHORTEST_BACKOFF: Final = 0.1
_LONGEST_BACKOFF: Final = 5.0

log = logger("partition")


class Partition:
    """One partition of this replica; `number` is its place among the site's partitions."""

    def __init__(self, number: int, tools: Tools) -> None:
        self.number = number
        self._tools = tools
        self._former_sessions: list[Any] = []
        self._stopping = False
        self._inbox: Inbox | None = None

    def stop(self) -> None:
        """Finish the batch in hand, hand the partition over and return from `run`."""
        self._stopping = True
        if self._inbox is not None:
            self._inbox.wake()

    async def run(self, seen: Document) -> None:
        """Take the partition as its cursor document was `seen`, and serve it until stopped or fenced off."""
        document: Document | None = seen
        backoff = _SHORTEST_BACKOFF
        try:
            while document is not None and not self._stopping:
                since = time.monotonic()
                if await self._hold(document):
                    return
                lasted = time.monotonic() - since
                backoff = _SHORTEST_BACKOFF if lasted > _LONGEST_BACKOFF else min(backoff * 2, _LONGEST_BACKOFF)
                document = await self._own_document(backoff)
        finally:
            await self._end_former_sessions()

    async def _hold(self, document: Document) -> bool:
        """Serve the partition under one lease; True: it is over, False: it was interrupted."""
        try:
            await self._serve_under_lease(document)
        except LeaseLost:
            log.info("partition is another replica's", partition=self.number)
        except TransientError as error:
            log.warning("interrupted", partition=self.number, cause=str(error))
            return False
        except Exception as error:  # noqa: BLE001 - one partition's trouble is not the others'
            log.warning("failed", partition=self.number, error=where(error))
            return False
        return True

    async def _own_document(self, backoff: float) -> Document | None:
        """Return, after a pause, the cursor document if it still names this replica as its owner."""
        while not self._stopping:
            await asyncio.sleep(uniform(backoff / 2, backoff))  # noqa: S311 - jitter, not a secret
            try:
                documents = await cursors.cursors(self._tools.database, self._tools.site)
            except (TransientError, Unexpected) as error:
                log.warning("database out of reach", partition=self.number, cause=str(error))
                continue
            mine = (item for item in documents if item["partition"] == self.number)
            return next((item for item in mine if item["owner"] == self._tools.owner), None)
        return None

    async def _serve_under_lease(self, document: Document) -> None:
        tools = self._tools
        lease, place = await cursors.take(tools.database, document, tools.owner)
        await self._end_former_sessions()
        log.info("partition taken", partition=self.number, epoch=lease.epoch, after=place.sequence)
        loop = Loop(tools, lease, place, BatchSizer(tools.settings.max_batch_events))
        try:
            await loop.recover()
            await self._go_on(loop)
            if not self._stopping:
                await self._find_place(loop)
                await self._serve(loop)
            await loop.delete_finished()
            await loop.close()
            await cursors.release(tools.database, lease)
            log.info("partition handed over", partition=self.number)
        finally:
            self._inbox = None
            metrics.LAG.labels(str(self.number)).set(0)
            tools.feed.leave(self.number)
            await loop.close()
            self._former_sessions.append(lease.session)

    async def _end_former_sessions(self) -> None:
        """End the sessions of former leases, late: an ended session's id goes to whoever needs one next.

        While the cursor document names it, the next `take` kills it, and with it somebody else's transaction.
        """
        while self._former_sessions:
            await self._former_sessions.pop().end_session()

    async def _find_place(self, loop: Loop) -> None:
        """Find where to read on; a stream that is not what it was moves the cursor to where it goes on."""
        tools, stream, place = self._tools, events_stream(self._tools.site), loop.place
        found = await resume_after(tools.broker, stream, place)
        if found != place:
            metrics.STREAM_FAULTS.inc()
            log.error(
                "stream re-made or shortened", partition=self.number, applied=place.sequence, on=found.sequence
            )
            await self._move(loop, found)

    async def _serve(self, loop: Loop) -> None:
        inbox = self._inbox = self._tools.feed.join(self.number, loop.place)
        loop.wake(inbox)
        while not self._stopping:
            inbox.clear_wakeup()
            await loop.settle_drained()
            if loop.has_to_wait:
                await inbox.wait_for_wakeup(FOLLOW_SECONDS)
            elif await inbox.wait(_TIDY_SECONDS if loop.paid else FOLLOW_SECONDS):
                metrics.LAG.labels(str(self.number)).set(len(inbox))
                await inbox.drain_ready()
                work = await loop.begin(inbox)
                if work is not None:
                    await loop.finish(work)
                await self._go_on(loop)
                inbox.discard_through(loop.place.sequence)
                metrics.LAG.labels(str(self.number)).set(len(inbox))
            elif loop.paid:
                await loop.delete_finished()
            else:
                await self._follow(loop, inbox)

    async def _go_on(self, loop: Loop) -> None:
        """Apply an event that has been applied in part to its end."""
        while loop.in_part and not self._stopping:
            work = await loop.go_on()
            if work is not None:
                await loop.finish(work)

    async def _follow(self, loop: Loop, inbox: Inbox) -> None:
        """Move an idle partition's cursor to where the feed is."""
        seen = self._tools.feed.seen(inbox)
        if not len(inbox) and seen.sequence > loop.place.sequence:
            await self._move(loop, seen)

    async def _move(self, loop: Loop, place: StreamPosition) -> None:
        await cursors.move(self._tools.database, loop.lease, loop.place, place)
        loop.writer.place = place
