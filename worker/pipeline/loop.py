"""The loop of one partition, in seven steps.

    batch → decide → apply → deliver → confirm → settle → announce

`begin` takes a batch through the first three, `finish` through the rest. Whatever fails in `finish` is treated
like a crash: the lease is taken anew and `recover` reads back what is owed, so there is one way to finish a
batch, whoever began it, and nothing is ever decided twice. Big rooms are drained beside the loop, which settles
them between two batches. (design.md, "The loop" and "Big rooms")
"""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from itertools import count
from math import inf
from typing import Final

from roomkeys.decisions.decide import MAX_ACCOUNTS
from roomkeys.errors import LeaseLost, TransientError, WriteConflict
from roomkeys.events.position import StreamPosition
from roomkeys.keys import KeyRecord, RoomKey
from roomkeys.membership import Room
from store.leases.lease import Lease
from store.writes.outbox import StoredEntry
from worker.broker.backoff import jittered_backoff
from worker.pipeline import recovery
from worker.pipeline.applied import AppliedBatch
from worker.pipeline.batch_limits import BatchSizer
from worker.pipeline.deliver import joiners_by_room
from worker.pipeline.inbox import Inbox
from worker.pipeline.large_rooms import BIG_ROOM
from worker.pipeline.pending_results import without_members
from worker.pipeline.tools import Tools
from worker.pipeline.writer import Writer, now_ms
from worker.telemetry import metrics
from worker.telemetry.logs import logger, where

MOST_RECIPIENTS: Final = 200_000
"""How many recipients the loop itself serves for one batch; the rooms beyond, the largest ones, are drained."""

RESULTS: Final = 256
"""Outbox entries whose results are confirmed together."""

log = logger("loop")


class Loop:
    """One partition's batches under one lease."""

    def __init__(self, tools: Tools, lease: Lease, place: StreamPosition, pace: BatchSizer) -> None:
        self.writer = Writer(tools, lease, place)
        self._debts = self.writer.debts
        self._drainers = self.writer.drainers
        self.lease = lease
        self._tools = tools
        self._courier = tools.courier
        self._pace = pace

    @property
    def in_part(self) -> bool:
        """Tell whether an event has been applied in part: it goes on before anything else is done."""
        return self.writer.part is not None

    @property
    def place(self) -> StreamPosition:
        """Return how far the partition has come."""
        return self.writer.place

    @property
    def paid(self) -> bool:
        """Tell whether there are outbox entries to strike."""
        return bool(self._debts.finished_ids)

    @property
    def has_to_wait(self) -> bool:
        """Tell whether so much waits for drained rooms that no batch should be begun."""
        return self._debts.is_full

    def wake(self, inbox: Inbox) -> None:
        """Let a drained room wake the reader of the inbox."""
        self._drainers.wake = inbox.wake

    async def begin(self, inbox: Inbox) -> AppliedBatch | None:
        """Take a batch, decide and apply it; None: nothing was written, and the next attempt is another one."""
        events = inbox.take(self._pace.events, MAX_ACCOUNTS)
        writing = self.writer.apply_batch(events, give_up=self._pace.should_dead_letter)
        work = await self._attempt(writing, alone=len(events) == 1)
        inbox.discard_through(self.writer.place.sequence)
        return work

    async def go_on(self) -> AppliedBatch | None:
        """Apply the next slice of the event that was applied in part; None as in `begin`."""
        if self.writer.part is None:
            return None
        return await self._attempt(
            self.writer.apply_slice(self.writer.part, give_up=self._pace.should_dead_letter), alone=True
        )

    async def finish(self, work: AppliedBatch) -> None:
        """Deliver, confirm, settle and announce what has been applied."""
        for room_id in work.rooms.keys() & self._drainers.rooms:
            if not await self._drainers.update(room_id, work.rooms[room_id].keys):
                await self._announce(self._debts.release(room_id, inf))
        await self._deliver(work, self._small(work.rooms))
        await self._complete(work.entries, work.rooms)

    async def recover(self) -> None:
        """Finish what the outbox says is owed, as it was decided, and take up an event applied in part."""
        database = self._tools.database
        owed: list[StoredEntry] = []
        rooms: dict[str, Room] = {}
        async for work in recovery.unfinished(database, self.lease):
            await self._deliver(work, {})
            owed += map(without_members, work.entries)
            rooms |= work.rooms
        if owed:
            log.info("finishing what is owed", partition=self.lease.partition, entries=len(owed))
            await self._deliver(AppliedBatch((), rooms), self._small(rooms))
            await self._complete(owed, rooms)
            await self.delete_finished()
        if self.writer.place.slice is not None:
            self.writer.part = await recovery.partially_applied(database, self.lease)

    async def settle_drained(self) -> None:
        """Settle the rooms whose pass is over, begin the next pass of those that are to rotate again, announce."""
        records = self._drainers.pop_finished()
        if not records:
            return
        await self._settle(records)
        # Where somebody else's key is in use above the settled one, results wait for the key that follows.
        settled = ((room_id, record.staged) for room_id, record in records.items() if not record.superseded)
        due = [self._debts.release(room_id, staged.version) for room_id, staged in settled if staged is not None]
        await self._announce([entry for of_room in due for entry in of_room])

    async def delete_finished(self) -> None:
        """Delete the outbox entries that have been paid."""
        await self.writer.delete_finished()

    async def close(self) -> None:
        """End the passes."""
        await self._drainers.end()

    async def _attempt(self, writing: Coroutine[None, None, AppliedBatch], *, alone: bool) -> AppliedBatch | None:
        partition = self.lease.partition
        try:
            work = await writing
        except WriteConflict as conflict:
            metrics.RETRIES.labels("conflict").inc()
            log.debug("conflict", partition=partition, cause=str(conflict))
            await asyncio.sleep(self._pace.on_conflict())
            return None
        except (TransientError, LeaseLost):
            raise
        except Exception as error:  # noqa: BLE001 - not known to pass: the pace decides who is given up
            metrics.RETRIES.labels("unexpected").inc()
            log.warning("batch failed", partition=partition, alone=alone, error=where(error))
            await asyncio.sleep(self._pace.on_failure(alone=alone))
            return None
        self._pace.on_success()
        return work

    def _small(self, rooms: Mapping[str, Room]) -> dict[str, RoomKey]:
        """Return the staged keys that the loop sends itself; between the slices of an event none would settle."""
        small: dict[str, RoomKey] = {}
        recipients = 0
        for room in sorted(rooms.values(), key=lambda room: room.size):
            if room.keys.staged is None or room.id in self._drainers or self.writer.place.slice is not None:
                continue
            recipients += room.size
            if room.size <= BIG_ROOM and recipients <= MOST_RECIPIENTS:
                small[room.id] = room.keys.staged
        return small

    async def _deliver(self, work: AppliedBatch, small: Mapping[str, RoomKey]) -> None:
        """Send what is owed, and the staged keys of small rooms to all their members; one barrier."""
        with metrics.step("deliver"):
            mark, at_ms = self._tools.broker.breaks, now_ms()
            joiners = joiners_by_room(work.owed)
            await self._courier.publish_notices(work.owed)
            await self._courier.send_key_to_joiners(work.current_keys(joiners), joiners, at_ms)
            await self._courier.send_key_to_joiners(self._drainers.staged(joiners), joiners, at_ms)
            await self._courier.fan_out_keys(small, work.remaining_members, self.lease, at_ms)
            await self._confirm(mark)
        self._drainers.newcomers_notified()

    async def _complete(self, entries: Sequence[StoredEntry], rooms: Mapping[str, Room]) -> None:
        """Settle the rooms whose key every member was sent, drain the big ones, announce what waits for none."""
        small = self._small(rooms)
        for room in rooms.values():
            if room.keys.staged is not None and room.id not in small and room.id not in self._drainers:
                self._drainers.begin(room.id, room.keys)
        await self._settle({room_id: rooms[room_id].keys for room_id in small})
        await self._announce(self._debts.defer(entries, self._drainers))

    async def _settle(self, records: Mapping[str, KeyRecord]) -> None:
        """Make staged keys current; a room whose version has been raised since is drained with its next key."""
        versions = {room_id: record.next_to_stage for room_id, record in records.items()}
        following = {
            room_id: RoomKey.generate(version) for room_id, version in versions.items() if version is not None
        }
        with metrics.step("settle"):
            await self._settle_in_the_end(records, following)
        metrics.ROTATIONS.inc(len(records))
        for room_id, key in following.items():
            self._drainers.begin(room_id, records[room_id].after_settle(key))

    async def _settle_in_the_end(self, records: Mapping[str, KeyRecord], following: Mapping[str, RoomKey]) -> None:
        """Settle, however often other services' writes to `rooms` get in the way."""
        for attempt in count():
            try:
                await self.writer.settle(records, following)
            except WriteConflict:
                metrics.RETRIES.labels("conflict").inc()
                await asyncio.sleep(jittered_backoff(attempt))
            else:
                return

    async def _announce(self, entries: Iterable[StoredEntry]) -> None:
        """Send the results, confirmed; then the entries are paid."""
        due = list(entries)
        for start in range(0, len(due), RESULTS):
            await self._announce_some(due[start : start + RESULTS])

    async def _announce_some(self, due: Sequence[StoredEntry]) -> None:
        if any(outcome.final for entry in due for outcome in entry.owed.outcomes):
            with metrics.step("announce"):
                mark = self._tools.broker.breaks
                await self._courier.publish_results([entry.owed for entry in due])
                await self._confirm(mark)
        for outcome in (outcome for entry in due for outcome in entry.owed.outcomes if outcome.final):
            metrics.EVENTS.labels(outcome.operation.value, "error" if outcome.error else "ok").inc()
        self._debts.finished_ids += [entry.id for entry in due]

    async def _confirm(self, mark: int) -> None:
        if not await self._tools.broker.confirm(mark):
            metrics.RETRIES.labels("unconfirmed").inc()
            raise TransientError("the broker did not confirm what was sent")
