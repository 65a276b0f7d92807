"""The writer: reads, decides and applies one batch, or one slice of an event, and settles, under one lease.

Everything that the loop writes is written here, and nothing is sent. A key that is made here is known to nobody
before the transaction that stages it has committed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from roomkeys.decisions.decide import decide, reject, touches
from roomkeys.decisions.decision import Decision, OutboxEntry
from roomkeys.decisions.slices import EventSlice, Sliceable, decide_slice
from roomkeys.decisions.snapshot import Snapshot
from roomkeys.errors import INTERNAL_ERROR, ErrorInfo
from roomkeys.events.event import AnyEvent, InvalidEvent, Remove, Rotate, StreamMessage
from roomkeys.events.position import SliceProgress, StreamPosition
from roomkeys.keys import KeyRecord, RoomKey
from store.database import Database
from store.documents import new_id
from store.reads.slices import all_known, next_accounts, reasons_to_clear
from store.reads.snapshot import load_batch, load_slice
from store.writes import outbox
from store.writes.apply import apply, clear_reasons
from store.writes.settle import settle
from worker.clock import Clock
from worker.limits import Limits
from worker.pipeline.applied_batch import AppliedBatch, remaining_members, rooms_after
from worker.pipeline.partition_state import PartitionState
from worker.telemetry import metrics


@dataclass(frozen=True, slots=True)
class Writer:
    """One partition's writes. They advance `state`; nothing else does while the partition is served.

    `grace_ms`: how long a replaced key stays available (milliseconds).
    """

    state: PartitionState
    database: Database
    limits: Limits
    clock: Clock
    site: str
    grace_ms: int

    async def apply_batch(self, events: Sequence[AnyEvent], *, give_up: bool) -> AppliedBatch | None:
        """Write a prefix of the events, at least one. With `give_up` the first event becomes a dead letter.

        If the first event is too large for one transaction, write nothing and return None: it is `state.partial`
        then, and `apply_slice` writes it. Errors as those of `store.writes.apply.apply`.
        """
        if give_up:
            outcome = reject(events[0], INTERNAL_ERROR, site=self.site, now_ms=self.clock())
            given_up = Decision(1, (), (OutboxEntry(events[0].room_id, (outcome,)),))
            return await self._write_batch(events[:1], given_up, Snapshot())
        together, snapshot = await self._read(events)
        if snapshot is None:
            self.state.begin_slices(events[0])
            return None
        decision = decide(
            together,
            snapshot,
            site=self.site,
            now_ms=self.clock(),
            new_id=new_id,
            most_accounts=self.limits.batch_accounts,
        )
        return await self._write_batch(together[: decision.taken], decision, snapshot)

    async def apply_slice(self, event: Sliceable, *, give_up: bool) -> AppliedBatch:
        """Write the next slice of the event; with `give_up` its last one, which says that the event failed."""
        progress = self.state.position.slice or SliceProgress()
        if give_up:
            snapshot = await self._load(event, []) if progress.rotates else Snapshot()
            return await self._write_slice(event, snapshot, [], last=True, fault=INTERNAL_ERROR)
        most = self.limits.batch_accounts
        with metrics.step("read"):
            session = self.state.lease.session
            found = await next_accounts(self.database, event, progress.after, session, most + 1)
            rows = await reasons_to_clear(self.database, event, session, most + 1)
            known = progress.number > 0 or await all_known(self.database, event, session, most)
            snapshot = await self._load(event, found[:most])
        # Rows go after every account, and only once the event is known to be valid.
        if len(rows) > most and not found and progress.number > 0:
            return await self._clear(rows[:most])
        last = max(len(found), len(rows)) <= most
        return await self._write_slice(event, snapshot, found[:most], last=last, known=known)

    async def settle(self, records: Mapping[str, KeyRecord], following: Mapping[str, RoomKey]) -> None:
        """Make staged keys current, and delete the finished outbox entries; no keys: no call."""
        if not records:
            return
        await settle(
            self.database,
            self.state.lease,
            records,
            following,
            finished_ids=self.state.finished_ids,
            now_ms=self.clock(),
            grace_ms=self.grace_ms,
        )
        self.state.finished_ids = []

    async def delete_finished(self) -> None:
        """Delete the finished outbox entries; none: no call."""
        with metrics.step("tidy"):
            await outbox.delete_finished(self.database, self.state.lease, self.state.finished_ids)
        self.state.finished_ids = []

    async def _read(self, events: Sequence[AnyEvent]) -> tuple[Sequence[AnyEvent], Snapshot | None]:
        """Read what a prefix of the events needs; no snapshot: the first event has to be applied in slices."""
        most = self.limits.batch_accounts
        if events[0].weight > most:
            return events[:1], None
        with metrics.step("read"):
            snapshot = await self._load_all(events)
            if snapshot.partial:
                events = list(takewhile(lambda event: not _has_orgs(event), events))
                snapshot = await self._load_all(events)
        if not events or touches(events[0], snapshot) > most:
            return events[:1], None
        return events, snapshot

    async def _load_all(self, events: Sequence[AnyEvent]) -> Snapshot:
        return await load_batch(
            self.database,
            events,
            self.state.lease.session,
            most=self.limits.batch_accounts,
            page=self.limits.page_accounts,
            large_rooms=self.state.large_rooms,
        )

    async def _load(self, event: Sliceable, accounts: list[str]) -> Snapshot:
        return await load_slice(self.database, event, accounts, self.state.lease.session)

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
        progress = self.state.position.slice or SliceProgress()
        slice_ = EventSlice(event, progress, accounts, is_last=last, all_users_known=known)
        decided = decide_slice(slice_, snapshot, site=self.site, now_ms=self.clock(), new_id=new_id, error=fault)
        if decided.next is None:
            return await self._apply(event.origin, decided.decision, snapshot, self._after(event))
        keep = event.origin if progress.number == 0 else None
        after = replace(self.state.position, slice=decided.next)
        return await self._apply(event.origin, decided.decision, snapshot, after, partial=event, keep=keep)

    async def _clear(self, rows: list[str]) -> AppliedBatch:
        with metrics.step("apply"):
            await clear_reasons(self.database, self.state.lease, self.state.position, rows)
        return AppliedBatch()

    async def _write_batch(
        self, events: Sequence[AnyEvent], decision: Decision, snapshot: Snapshot
    ) -> AppliedBatch:
        return await self._apply(events[0].origin, decision, snapshot, self._after(events[-1]))

    def _after(self, event: AnyEvent) -> StreamPosition:
        return StreamPosition(event.origin.sequence, event.origin.time_ns, self.state.position.created_ns)

    async def _apply(
        self,
        first: StreamMessage,
        decision: Decision,
        snapshot: Snapshot,
        after: StreamPosition,
        *,
        partial: Sliceable | None = None,
        keep: StreamMessage | None = None,
    ) -> AppliedBatch:
        """Write a decision and advance; the keys that it stages are made here and exist nowhere else."""
        state = self.state
        entries = outbox.stored_entries(state.lease, decision.entries, first.sequence, state.position)
        staged = {
            change.room.id: RoomKey.generate(change.stage)
            for change in decision.changes
            if change.stage is not None
        }
        # Members wait for a staged key, so finished entries are deleted by the settle that follows it.
        finished_ids = [] if staged else state.finished_ids
        self._exclude_joiners(decision, snapshot)
        with metrics.step("apply"):
            await apply(
                self.database,
                state.lease,
                before=state.position,
                after=after,
                changes=decision.changes,
                staged=staged,
                entries=entries,
                finished_ids=finished_ids,
                now_ms=self.clock(),
                kept_event=keep,
            )
        state.advance(after, partial)
        if not staged:
            state.finished_ids = []
        metrics.BATCHES.observe(decision.taken)
        return AppliedBatch(
            entries, rooms_after(decision, snapshot, staged), remaining_members(decision, snapshot)
        )

    def _exclude_joiners(self, decision: Decision, snapshot: Snapshot) -> None:
        """Keep rollouts from sending joiners the key before their notice; earlier members may have it any time."""
        large_rooms = self.state.large_rooms
        for change in decision.changes:
            if change.room.id in large_rooms:
                before = snapshot.members.get(change.room.id, {})
                joined = (membership.account for membership in change.joined)
                large_rooms.exclude(change.room.id, (account for account in joined if account not in before))


def _has_orgs(event: AnyEvent) -> bool:
    """Tell whether the event may touch more accounts than it names."""
    match event:
        case InvalidEvent() | Rotate():
            return False
        case Remove():
            return event.org is not None
        case _:
            return bool(event.orgs)
