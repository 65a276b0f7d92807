"""The writer: reads, decides and applies one batch, or one slice of an event, and settles, under one lease.

All that the loop writes is written here, with what has been paid. Nothing is sent here, and a key that is made
here is known to nobody before the transaction that stages it was committed.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Final

from roomkeys.decisions.decide import MAX_ACCOUNTS, decide, reject, touches
from roomkeys.decisions.decision import Decision, OutboxEntry
from roomkeys.decisions.slices import EventSlice, Sliceable, decide_slice
from roomkeys.decisions.snapshot import Snapshot
from roomkeys.errors import INTERNAL_FAULT, ErrorInfo
from roomkeys.events.event import AnyEvent, InvalidEvent, Remove, Rotate, StreamMessage
from roomkeys.events.position import SliceProgress, StreamPosition
from roomkeys.keys import KeyRecord, RoomKey
from store.documents import new_id
from store.leases.lease import Lease
from store.reads.slices import all_known, next_accounts, rows_to_clear
from store.reads.snapshot import load_batch, load_slice
from store.writes import outbox
from store.writes.apply import apply, clear_rows
from store.writes.settle import settle
from worker.pipeline.applied import AppliedBatch, rooms_after, survivors_after
from worker.pipeline.large_rooms import LargeRooms
from worker.pipeline.pending_results import PendingResults
from worker.pipeline.tools import Tools
from worker.telemetry import metrics

SLICE: Final = MAX_ACCOUNTS
"""The most accounts that one transaction touches."""


class Writer:
    """One partition's writes; `place` is how far they have come, `part` an event that is applied in slices."""

    def __init__(self, tools: Tools, lease: Lease, place: StreamPosition) -> None:
        self.lease = lease
        self.place = place
        self.part: Sliceable | None = None
        self.debts = PendingResults()
        self.drainers = LargeRooms(tools.passes, lease)
        self._tools = tools
        self._database = tools.database
        self._site = tools.site
        self._grace_ms = tools.settings.grace_ms

    async def apply_batch(self, events: Sequence[AnyEvent], *, give_up: bool) -> AppliedBatch:
        """Write a beginning of the events, at least one; of an event too large for one transaction a slice."""
        if give_up:
            outcome = reject(events[0], INTERNAL_FAULT, site=self._site, now_ms=now_ms())
            given_up = Decision(1, (), (OutboxEntry(events[0].room_id, (outcome,)),))
            return await self._write_batch(events[:1], given_up, Snapshot())
        together, snapshot = await self._read(events)
        if snapshot is None:
            return await self._first_slice(events[0])
        decision = decide(together, snapshot, site=self._site, now_ms=now_ms(), new_id=new_id)
        return await self._write_batch(together[: decision.taken], decision, snapshot)

    async def apply_slice(self, event: Sliceable, *, give_up: bool) -> AppliedBatch:
        """Write the next slice of the event, the last one if it is given up."""
        so_far = self.place.slice or SliceProgress()
        if give_up:
            snapshot = await self._load(event, []) if so_far.rotates else Snapshot()
            return await self._write_slice(event, snapshot, [], last=True, fault=INTERNAL_FAULT)
        with metrics.step("read"):
            session = self.lease.session
            found = await next_accounts(self._database, event, so_far.after, session, SLICE + 1)
            rows = await rows_to_clear(self._database, event, session, SLICE + 1)
            known = so_far.number > 0 or await all_known(self._database, event, session, SLICE)
            snapshot = await self._load(event, found[:SLICE])
        # Rows go once every account had its turn, and not before the event is known to be a good one.
        if len(rows) > SLICE and not found and so_far.number > 0:
            return await self._clear(rows[:SLICE])
        last = max(len(found), len(rows)) <= SLICE
        return await self._write_slice(event, snapshot, found[:SLICE], last=last, known=known)

    async def settle(self, records: Mapping[str, KeyRecord], following: Mapping[str, RoomKey]) -> None:
        """Make staged keys current, and delete what has been paid; no keys: no call."""
        paid, grace_ms = self.debts.finished_ids, self._grace_ms
        await settle(self._database, self.lease, records, following, paid=paid, now_ms=now_ms(), grace_ms=grace_ms)
        self.debts.finished_ids = [] if records else paid

    async def delete_finished(self) -> None:
        """Delete the outbox entries that have been paid."""
        with metrics.step("strike"):
            await outbox.delete_finished(self._database, self.lease, self.debts.finished_ids)
        self.debts.finished_ids = []

    async def _read(self, events: Sequence[AnyEvent]) -> tuple[Sequence[AnyEvent], Snapshot | None]:
        """Read what a beginning of the events needs; no snapshot: the first event has to be cut in slices."""
        if events[0].weight > SLICE:
            return events[:1], None
        with metrics.step("read"):
            snapshot = await self._load_all(events)
            if snapshot.partial:
                events = list(takewhile(lambda event: not _orgs_of(event), events))
                snapshot = await self._load_all(events)
        if not events or touches(events[0], snapshot) > SLICE:
            return events[:1], None
        return events, snapshot

    async def _first_slice(self, event: AnyEvent) -> AppliedBatch:
        if isinstance(event, InvalidEvent | Rotate):
            raise TypeError("an event without memberships has no slices")
        return await self.apply_slice(event, give_up=False)

    async def _load_all(self, events: Sequence[AnyEvent]) -> Snapshot:
        return await load_batch(self._database, events, self.lease.session, most=SLICE, large_rooms=self.drainers)

    async def _load(self, event: Sliceable, accounts: list[str]) -> Snapshot:
        return await load_slice(self._database, event, accounts, self.lease.session)

    async def _write_slice(
        self,
        event: Sliceable,
        snapshot: Snapshot,
        accounts: list[str],
        *,
        last: bool,
        known: bool = True,
        fault: ErrorInfo | None = None,
    ) -> AppliedBatch:
        progress = self.place.slice or SliceProgress()
        slice_ = EventSlice(event, progress, accounts, is_last=last, all_users_known=known)
        decided = decide_slice(slice_, snapshot, site=self._site, now_ms=now_ms(), new_id=new_id, error=fault)
        keep = event.origin if progress.number == 0 and decided.next is not None else None
        after = self._after(event) if decided.next is None else replace(self.place, slice=decided.next)
        work = await self._apply(event.origin, decided.decision, snapshot, after, keep)
        self.part = None if decided.next is None else event
        return work

    async def _clear(self, rows: list[str]) -> AppliedBatch:
        with metrics.step("apply"):
            await clear_rows(self._database, self.lease, self.place, rows)
        return AppliedBatch()

    async def _write_batch(
        self, events: Sequence[AnyEvent], decision: Decision, snapshot: Snapshot
    ) -> AppliedBatch:
        return await self._apply(events[0].origin, decision, snapshot, self._after(events[-1]), None)

    def _after(self, event: AnyEvent) -> StreamPosition:
        return StreamPosition(event.origin.sequence, event.origin.time_ns, self.place.created_ns)

    async def _apply(
        self,
        first: StreamMessage,
        decision: Decision,
        snapshot: Snapshot,
        after: StreamPosition,
        keep: StreamMessage | None,
    ) -> AppliedBatch:
        """Write a decision; the keys it stages are made here and exist nowhere else."""
        entries = outbox.entries(self.lease, decision.owed, first.sequence, self.place)
        staged = {
            change.room.id: RoomKey.generate(change.stage)
            for change in decision.changes
            if change.stage is not None
        }
        work = AppliedBatch(entries, rooms_after(decision, snapshot, staged), survivors_after(decision, snapshot))
        self._leave_newcomers_out(decision, snapshot)
        # A staged key settles soon, and what has been paid can wait for that: members wait for the key.
        paid = [] if staged else self.debts.finished_ids
        with metrics.step("apply"):
            await apply(
                self._database,
                self.lease,
                before=self.place,
                after=after,
                changes=decision.changes,
                staged=staged,
                owed=entries,
                paid=paid,
                now_ms=now_ms(),
                keep=keep,
            )
        self.place = after
        if not staged:
            self.debts.finished_ids = []
        metrics.BATCHES.observe(decision.taken)
        return work

    def _leave_newcomers_out(self, decision: Decision, snapshot: Snapshot) -> None:
        """Keep a drainer from sending the key before the notice; who was a member before may have it any time."""
        for change in decision.changes:
            if change.room.id in self.drainers:
                before = snapshot.members.get(change.room.id, {})
                joined = (membership.account for membership in change.joined)
                self.drainers.exclude(change.room.id, (account for account in joined if account not in before))


def _orgs_of(event: AnyEvent) -> bool:
    """Tell whether the event may touch more accounts than it names."""
    match event:
        case InvalidEvent() | Rotate():
            return False
        case Remove():
            return event.org is not None
        case _:
            return bool(event.orgs)


def now_ms() -> int:
    """Return the time in epoch milliseconds."""
    return time.time_ns() // 1_000_000
