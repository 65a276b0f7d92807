"""The loop of one partition, in seven steps.

    batch → decide → apply → deliver → confirm → settle → announce

`run_batch` takes a batch through all of them, `run_slice` a slice of a large event. Any error after apply ends the
lease, as a crash would. The next lease calls `recover`, which reads the outbox and enters the same function at
"deliver". So every batch is finished in one way, and nothing is decided twice. Large rooms roll out beside the
loop, which settles them between two batches. (docs/design.md, "The loop" and "Large rooms")
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from roomkeys.events.event import AnyEvent
from roomkeys.keys import KeyRecord, RoomKey
from roomkeys.membership import Room
from store.database import Database
from store.writes.letters import keep_letters, letters_of
from store.writes.outbox import StoredEntry
from store.writes.waiting import read_waiting
from worker.broker.connection import Broker
from worker.broker.permissions.denials import named
from worker.broker.permissions.rights import denies_keys
from worker.clock import Clock
from worker.limits import Limits
from worker.pipeline import recovery
from worker.pipeline.deliver import Publisher, joiners_by_room
from worker.pipeline.failures.blame import Blame
from worker.pipeline.letters.sender import DeadLetters
from worker.pipeline.settling import settle_or_postpone
from worker.pipeline.state.applied_batch import AppliedBatch, FanoutPlan, nobody_reached, plan_fanout
from worker.pipeline.state.inbox import Inbox
from worker.pipeline.state.partition_state import PartitionState
from worker.pipeline.state.pending_results import without_members
from worker.pipeline.writer import Writer
from worker.telemetry import metrics
from worker.telemetry.logs import logger

log = logger("loop")


@dataclass(frozen=True, slots=True)
class Loop:
    """One partition's batches under one lease. Its state is `state`; the other fields never change."""

    state: PartitionState
    writer: Writer
    publisher: Publisher
    broker: Broker
    database: Database
    blame: Blame
    letters: DeadLetters
    limits: Limits
    clock: Clock

    async def run_batch(self, inbox: Inbox) -> None:
        """Take a batch from the inbox through the seven steps; the events stay in it if nothing was written."""
        events = self.state.set_aside.fitting(inbox.take(self.blame.sizer.events, self.limits.batch_accounts))
        applied = None
        if not events:
            await self.blame.wait_for_place()
        elif not await self.blame.set_suspect_aside(events[0]):
            applied = await self._apply(events)
        inbox.discard_through(self.state.position.sequence)
        if applied is not None:
            await self._finish(applied)

    async def _apply(self, events: Sequence[AnyEvent]) -> AppliedBatch | None:
        if len(events) > 1:
            return await self.blame.attempt(self.writer.apply_batch(events), None)
        if not await self.blame.may_continue(events[0]):
            return None
        give_up = self.blame.in_place.give_up
        writing = self.writer.give_up(events[0]) if give_up else self.writer.apply_batch(events)
        return await self.blame.attempt(writing, events[0])

    async def run_slice(self) -> None:
        """Take the next slice of the event that is applied in slices through the seven steps."""
        event = self.state.partial
        if event is None or not await self.blame.may_continue(event):
            return
        writing = self.writer.apply_slice(event, give_up=self.blame.in_place.give_up)
        applied = await self.blame.attempt(writing, event)
        if applied is not None:
            await self._finish(applied)

    async def retry_set_aside(self) -> None:
        """Take the first events of the set-aside room that is due through the seven steps."""
        applied = await self.blame.retry()
        if applied is not None:
            await self._finish(applied)

    async def recover(self) -> None:
        """Finish what the outbox holds, as it was decided, and take up the event that is applied in slices."""
        lease = self.state.lease
        entries: list[StoredEntry] = []
        rooms: dict[str, Room] = {}
        async for applied in recovery.unfinished(self.database, lease, self.limits.outbox_page):
            await keep_letters(self.database, lease, applied.entries, self.state.position.created_ns)
            await self._deliver(applied, FanoutPlan())
            entries += map(without_members, applied.entries)
            rooms |= applied.rooms
        self.letters.begin()
        if entries:
            log.info("finishing the previous owner's batches", partition=lease.partition, entries=len(entries))
            await self._finish(AppliedBatch(entries, rooms))
            await self.writer.delete_finished()
        self.state.set_aside.add(await read_waiting(self.database, lease))
        if self.state.position.slice is not None:
            partial = await recovery.partially_applied(self.database, lease, self.state.set_aside)
            self.state.advance(self.state.position, partial)

    async def close(self) -> None:
        """End what runs beside the loop."""
        await self.state.large_rooms.close()
        await self.letters.close()

    async def settle_rollouts(self) -> None:
        """Settle the large rooms whose rollout is over; those that rotated again meanwhile begin the next one."""
        records = self.state.large_rooms.pop_finished()
        if not records:
            return
        settled = await self._settle({room_id: one for room_id, one in records.items() if one.staged is not None})
        # Where a foreign key is in use above the settled one, results wait for the key that follows it.
        over = {room_id: one.staged for room_id, one in records.items() if one.staged is None or room_id in settled}
        due = [
            self.state.pending.release(room_id, inf if key is None else key.version)
            for room_id, key in over.items()
            if not records[room_id].superseded
        ]
        await self._announce([entry for of_room in due for entry in of_room])

    async def _finish(self, applied: AppliedBatch) -> None:
        """Deliver, confirm, settle and announce what has been applied."""
        self.letters.add(letters_of(self.state.lease, applied.entries, self.state.position.created_ns))
        await self._update_rollouts(applied.rooms)
        settles = self.state.position.slice is None
        plan = plan_fanout(applied.rooms, self.state.large_rooms, self.limits, settles=settles)
        plan = await self._deliver(applied, plan)
        for room_id, record in plan.large.items():
            self.state.large_rooms.begin(room_id, record)
        await self._settle(plan.inline)
        await self._announce(self.state.pending.defer(applied.entries, self.state.large_rooms))

    async def _update_rollouts(self, rooms: Mapping[str, Room]) -> None:
        """Let rollouts know the keys of their rooms; publish what waited for a rollout that has lost its key."""
        large_rooms = self.state.large_rooms
        for room_id in rooms.keys() & large_rooms.room_ids:
            if not await large_rooms.update(room_id, rooms[room_id].keys):
                await self._announce(self.state.pending.release(room_id, inf))

    async def _deliver(self, applied: AppliedBatch, plan: FanoutPlan) -> FanoutPlan:
        """Publish notices, then joiners' keys, then the plan's staged keys, and wait for the confirmation.

        Return the plan as the broker confirmed it: keys that it denied to everybody wait in a rollout.
        """
        joiners, at_ms = joiners_by_room(applied.contents), self.clock()
        with metrics.step("deliver"):
            async with self.broker.barrier() as confirmed:
                await self.publisher.publish_notices(applied.contents)
                await self.publisher.send_key_to_joiners(applied.current_keys(joiners), joiners, at_ms)
                await self.publisher.send_key_to_joiners(self.state.large_rooms.staged_keys(joiners), joiners, at_ms)
                sent = await self.publisher.fan_out_keys(
                    plan.inline_keys, applied.remaining_members, self.state.lease, at_ms
                )
        self.state.large_rooms.joiners_notified()
        if confirmed.denied:
            await self._owe_denied_joiners(applied, joiners, confirmed.denied)
        return plan.given_denials(confirmed.denied, applied.remaining_members, sent)

    async def _owe_denied_joiners(
        self, applied: AppliedBatch, joiners: Mapping[str, Sequence[str]], denied: frozenset[str]
    ) -> None:
        """Let rooms wait whose joiners could not be sent the current key, unless only these accounts are denied."""
        log.warning("the broker denied room keys", recipients=len(denied), accounts=named(denied))
        unreached = {
            room_id: accounts
            for room_id, accounts in joiners.items()
            if room_id in applied.current_keys(joiners)
            and applied.rooms[room_id].keys.staged is None
            and nobody_reached(accounts, denied)
        }
        if unreached and await denies_keys(self.broker):
            for room_id, accounts in unreached.items():
                self.state.large_rooms.owe(room_id, applied.rooms[room_id].keys, accounts)

    async def _settle(self, records: Mapping[str, KeyRecord]) -> Mapping[str, KeyRecord]:
        """Make staged keys current, and return the rooms in which that succeeded.

        A room that rotated again meanwhile begins a rollout of its next key. One that cannot settle is postponed.
        """
        versions = {room_id: record.next_to_stage for room_id, record in records.items()}
        following = {room_id: RoomKey.generate(version) for room_id, version in versions.items() if version is not None}
        with metrics.step("settle"):
            settled = await settle_or_postpone(self.writer, records, following)
        self.state.large_rooms.settled(settled)
        metrics.ROTATIONS.inc(len(settled))
        for room_id in settled.keys() & following.keys():
            self.state.large_rooms.begin(room_id, records[room_id].after_settle(following[room_id]))
        return settled

    async def _announce(self, entries: Sequence[StoredEntry]) -> None:
        """Publish the results; once they are confirmed, the entries are finished."""
        for start in range(0, len(entries), self.limits.results_per_barrier):
            some = entries[start : start + self.limits.results_per_barrier]
            outcomes = [outcome for entry in some for outcome in entry.content.outcomes if outcome.final]
            if outcomes:
                with metrics.step("announce"):
                    async with self.broker.barrier():
                        await self.publisher.publish_results(entry.content for entry in some)
            for outcome in outcomes:
                metrics.EVENTS.labels(outcome.operation.value, "error" if outcome.error else "ok").inc()
            self.state.finished_ids += [entry.id for entry in some]
