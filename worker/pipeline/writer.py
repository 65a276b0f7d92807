"""The writer: reads, decides and applies one batch, or one slice of an event, and settles, under one lease.

Everything that the loop writes is written here, and nothing is sent. A key that is made here is known to nobody
before the transaction that stages it has committed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile

from roomkeys.decisions.decide import decide, reject, touches
from roomkeys.decisions.decision import Decision, OutboxEntry
from roomkeys.decisions.slices import EventSlice, Sliceable, decide_slice
from roomkeys.decisions.snapshot import Snapshot
from roomkeys.errors import INTERNAL_ERROR, ErrorInfo
from roomkeys.events.event import AnyEvent, InvalidEvent, Remove, Rotate
from roomkeys.events.position import SliceProgress, StreamPosition
from roomkeys.keys import KeyRecord, RoomKey
from store.database import Database
from store.documents import new_id
from store.reads.slices import next_accounts, reasons_to_clear, unknown_account
from store.reads.snapshot import load_batch, load_slice
from store.writes import outbox
from store.writes.apply import apply, clear_reasons
from store.writes.settle import settle
from store.writes.waiting import StoredWaiting, note_try, set_aside
from worker.clock import Clock
from worker.limits import Limits
from worker.pipeline.failures.control import rehearse_twin
from worker.pipeline.state.applied_batch import AppliedBatch, remaining_members, rooms_after
from worker.pipeline.state.partition_state import PartitionState
from worker.telemetry import metrics


@dataclass(frozen=True, slots=True)
class Writer:
    """One partition's writes. They advance `state`; nothing else does while the partition is served.

    `clock` is the clock of the database, which decides when replaced keys expire. `grace_ms`: how long such a key
    stays available (milliseconds).
    """

    state: PartitionState
    database: Database
    limits: Limits
    clock: Clock
    site: str
    grace_ms: int

    async def apply_batch(self, events: Sequence[AnyEvent]) -> AppliedBatch | None:
        """Write a prefix of the events, at least one. Those of set-aside rooms begin to wait in this transaction.

        Return None if there is nothing to deliver: all of the prefix waits, or the first event is too large for one
        transaction and nothing was written. It is `state.partial` then, and `apply_slice` writes it. Errors are
        those of `store.writes.apply.apply`.
        """
        set_aside = self.state.set_aside
        ready = [event for event in events if event.room_id not in set_aside] if set_aside else events
        readable, snapshot = await self._read(ready) if ready else (ready, None)
        if snapshot is None:
            waiting = list(takewhile(lambda event: event is not ready[0], events)) if ready else events
            if waiting:
                await self._pass_over(waiting)
            else:
                self.state.begin_slices(ready[0])
            return None
        decision = self._decide(readable, snapshot)
        if not set_aside:
            return await self._apply(readable[: decision.taken], decision, snapshot)
        following = ready[decision.taken] if decision.taken < len(ready) else None
        batch = list(takewhile(lambda event: event is not following, events))
        return await self._apply(batch, decision, snapshot)

    async def apply_waiting(self, events: Sequence[AnyEvent]) -> AppliedBatch:
        """Write a prefix of the first events of a set-aside room, or the first slice of the first one."""
        readable, snapshot = await self._read(events)
        if snapshot is None:
            return await self.apply_slice(self.state.begin_slices(events[0]), give_up=False)
        decision = self._decide(readable, snapshot)
        return await self._apply(readable[: decision.taken], decision, snapshot)

    async def give_up(self, event: AnyEvent) -> AppliedBatch:
        """Write the rejection of an event that has waited: it becomes a dead letter."""
        outcome = reject(event, INTERNAL_ERROR, site=self.site, now_ms=self.clock())
        given_up = Decision(1, (), (OutboxEntry(event.room_id, (outcome,)),))
        return await self._apply([event], given_up, Snapshot())

    async def set_aside(self, event: AnyEvent) -> None:
        """Let the next event wait, if the database takes what its twin reads and writes. Errors: those of `apply`."""
        await rehearse_twin(self.database, self.state.lease, event, self.clock())
        await self._pass_over([event], self.state.set_aside.new(event))

    async def control(self, event: AnyEvent, waiting: StoredWaiting | None) -> None:
        """Carry out what the event's twin reads and writes, and commit a write for the event that waits, if any."""
        lease, position = self.state.lease, self.state.position
        await rehearse_twin(self.database, lease, event, self.clock())
        await note_try(self.database, lease, position, waiting)

    async def apply_slice(self, event: Sliceable, *, give_up: bool) -> AppliedBatch:
        """Write the next slice of the event; with `give_up` its last one, which says that the event failed."""
        session, most = self.state.lease.session, self.limits.batch_accounts
        progress = self.state.position.slice or SliceProgress()
        if give_up:
            snapshot = await load_slice(self.database, event, [], session) if progress.rotates else Snapshot()
            return await self._apply_slice(EventSlice(event, progress), snapshot, INTERNAL_ERROR)
        with metrics.step("read"):
            accounts = await next_accounts(self.database, event, progress.after, session, most + 1)
            reasons = await reasons_to_clear(self.database, event, session, most + 1)
            unknown = None if progress.number else await unknown_account(self.database, event, session, most)
            snapshot = await load_slice(self.database, event, accounts[:most], session)
        # Reasons go after every account, and only once the event is known to be valid.
        if len(reasons) > most and not accounts and progress.number > 0:
            with metrics.step("apply"):
                await clear_reasons(self.database, self.state.lease, self.state.position, reasons[:most])
            return AppliedBatch()
        is_last = max(len(accounts), len(reasons)) <= most
        slice_ = EventSlice(event, progress, accounts[:most], is_last=is_last, unknown_account=unknown)
        return await self._apply_slice(slice_, snapshot)

    async def settle(self, records: Mapping[str, KeyRecord], following: Mapping[str, RoomKey]) -> None:
        """Make staged keys current, and delete the finished outbox entries; do nothing if no key is staged."""
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
        """Delete the finished outbox entries; do nothing if there are none."""
        with metrics.step("tidy"):
            await outbox.delete_finished(self.database, self.state.lease, self.state.finished_ids)
        self.state.finished_ids = []

    def _decide(self, events: Sequence[AnyEvent], snapshot: Snapshot) -> Decision:
        now_ms, most = self.clock(), self.limits.batch_accounts
        return decide(events, snapshot, site=self.site, now_ms=now_ms, new_id=new_id, most=most)

    async def _pass_over(self, events: Sequence[AnyEvent], first: StoredWaiting | None = None) -> None:
        """Move the cursor past events that wait from now on; `first` is that of a room that was not set aside yet."""
        state, last = self.state, events[-1].origin
        waiting = state.set_aside.stored(events) if first is None else [first]
        after = StreamPosition(last.sequence, last.time_ns, state.position.created_ns)
        await set_aside(self.database, state.lease, state.position, after, waiting)
        state.advance(after)
        state.set_aside.add(waiting)

    async def _read(self, events: Sequence[AnyEvent]) -> tuple[Sequence[AnyEvent], Snapshot | None]:
        """Read what a prefix of the events needs; no snapshot: the first event has to be applied in slices."""
        most = self.limits.batch_accounts
        if events[0].weight > most:
            return events[:1], None
        load = partial(
            load_batch,
            self.database,
            session=self.state.lease.session,
            most=most,
            page=self.limits.page_accounts,
            large_rooms=self.state.large_rooms,
        )
        with metrics.step("read"):
            snapshot = await load(events)
            if snapshot.partial:
                events = list(takewhile(lambda event: not _has_orgs(event), events))
                snapshot = await load(events)
        if not events or touches(events[0], snapshot) > most:
            return events[:1], None
        return events, snapshot

    async def _apply_slice(
        self, slice_: EventSlice, snapshot: Snapshot, error: ErrorInfo | None = None
    ) -> AppliedBatch:
        decided = decide_slice(slice_, snapshot, site=self.site, now_ms=self.clock(), new_id=new_id, error=error)
        return await self._apply([slice_.event], decided.decision, snapshot, decided.next)

    async def _apply(
        self, events: Sequence[AnyEvent], decision: Decision, snapshot: Snapshot, progress: SliceProgress | None = None
    ) -> AppliedBatch:
        """Write the decision of events, or of a slice that leaves its event at `progress`, and advance.

        The keys that the decision stages are made here and exist nowhere else.
        """
        state, first, last = self.state, events[0].origin, events[-1].origin
        waited_ids = state.set_aside.ids_of(events)
        after = StreamPosition(last.sequence, last.time_ns, state.position.created_ns)
        if progress is not None or waited_ids:  # the cursor stays, or is past events that have waited
            after = replace(state.position, slice=progress)
        retry = state.set_aside.next_retry() if waited_ids else None
        waiting = [] if waited_ids else state.set_aside.stored(events)
        entries = outbox.stored_entries(state.lease, decision.entries, first.sequence, state.position, retry)
        versions = {change.room.id: change.stage for change in decision.changes}
        staged = {room_id: RoomKey.generate(stage) for room_id, stage in versions.items() if stage is not None}
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
                finished_ids=[*finished_ids, *([] if progress else waited_ids)],
                now_ms=self.clock(),
                waiting=waiting,
                kept_event=None if progress is None or state.position.slice is not None else first,
            )
        state.advance(after, None if progress is None else state.partial)
        state.finished_ids = state.finished_ids if staged else []
        state.set_aside.add(waiting)
        if waited_ids and progress is None:
            state.set_aside.succeeded(events[0].room_id, len(waited_ids))
        metrics.BATCHES.observe(decision.taken)
        rooms = rooms_after(decision, snapshot, staged)
        return AppliedBatch(entries, rooms, remaining_members(decision, snapshot))

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
