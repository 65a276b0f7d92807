"""The loop of one partition, in seven steps.

    batch → decide → apply → deliver → confirm → settle → announce

`begin` takes a batch through the first three, `finish` through the rest. Whatever fails in `finish` is treated
like a crash: the lease is taken anew and `recover` reads back what is owed, so there is one way to finish a
batch, whoever began it, and nothing is ever decided twice. (design.md, "The loop")
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from roomkeys.decide import MAX_ACCOUNTS, decide, reject
from roomkeys.decision import Decision, Owed
from roomkeys.errors import INTERNAL_FAULT, Conflict, LostLease, Passing
from roomkeys.events import AnyEvent
from roomkeys.keys import KeyRecord, RoomKey
from roomkeys.people import Snapshot
from store import outbox
from store.apply import apply
from store.connect import Database
from store.cursors import Lease, Place
from store.documents import new_id
from store.outbox import Entry
from store.settle import settle
from store.snapshot import key_records, load
from store.survivors import still_members
from worker import metrics
from worker.broker import Broker
from worker.courier import Courier, joiners_by_room
from worker.feed import Feed
from worker.inbox import Inbox
from worker.logs import logger, where
from worker.pace import Pace, pause
from worker.settings import Settings

log = logger("loop")


@dataclass(frozen=True, slots=True)
class Tools:
    """What every partition of a replica works with; `owner` is the replica's id."""

    settings: Settings
    database: Database
    broker: Broker
    feed: Feed
    courier: Courier
    owner: str

    @property
    def site(self) -> str:
        """Return the site whose events these are."""
        return self.settings.site_id


@dataclass(frozen=True, slots=True)
class Work:
    """A batch that has been applied: what it owes, and its rooms' keys as they were before or staged by it."""

    entries: Sequence[Entry]
    records: Mapping[str, KeyRecord]

    @property
    def owed(self) -> list[Owed]:
        """Return what is owed, without the outbox's ids."""
        return [entry.owed for entry in self.entries]


class Loop:
    """One partition's batches under one lease; `place` is how far they have come, `paid` what may be struck."""

    def __init__(self, tools: Tools, lease: Lease, place: Place, pace: Pace) -> None:
        self.place = place
        self.lease = lease
        self.paid: list[str] = []
        self._tools = tools
        self._pace = pace

    async def begin(self, inbox: Inbox) -> Work | None:
        """Take a batch, decide and apply it; None: nothing was written, and the next attempt is another one."""
        events = inbox.take(self._pace.events, MAX_ACCOUNTS)
        try:
            if self._pace.gives_up:
                snapshot, decision = Snapshot(), self._give_up(events[0])
            else:
                snapshot = await self._read(events)
                decision = decide(events, snapshot, site=self._tools.site, now_ms=_now_ms(), new_id=new_id)
            work = await self._apply(events[: decision.taken], decision, snapshot)
        except Conflict as conflict:
            metrics.RETRIES.labels("conflict").inc()
            log.debug("conflict", partition=self.lease.partition, cause=str(conflict))
            await asyncio.sleep(self._pace.conflict())
            return None
        except (Passing, LostLease):
            raise
        except Exception as error:  # noqa: BLE001 - not known to pass: the pace decides who is given up
            metrics.RETRIES.labels("unexpected").inc()
            log.warning("batch failed", partition=self.lease.partition, events=len(events), error=where(error))
            await asyncio.sleep(self._pace.failed(alone=len(events) == 1))
            return None
        inbox.drop(decision.taken)
        self._pace.succeeded()
        metrics.BATCHES.observe(decision.taken)
        return work

    async def finish(self, work: Work) -> None:
        """Deliver, confirm, settle and announce a batch that has been applied."""
        await self._deliver(work)
        await self._settle(work)
        await self._announce(work)
        for outcome in (outcome for item in work.owed for outcome in item.outcomes if outcome.final):
            metrics.EVENTS.labels(outcome.operation.value, "error" if outcome.error else "ok").inc()
        self.paid += [entry.id for entry in work.entries]

    async def recover(self) -> None:
        """Finish what the outbox says is owed, as it was decided; joiners who have left since get nothing."""
        database, session = self._tools.database, self.lease.session
        entries = await outbox.unpaid(database, self.lease)
        if not entries:
            return
        log.info("finishing what is owed", partition=self.lease.partition, entries=len(entries))
        rooms = {entry.owed.room_id for entry in entries if entry.owed.room_id is not None}
        records = await key_records(database, rooms, session)
        members = await still_members(database, joiners_by_room(entry.owed for entry in entries), session)
        await self.finish(Work([_for_members(entry, members) for entry in entries], records))
        await self.strike()

    async def strike(self) -> None:
        """Delete the outbox entries that have been paid."""
        with metrics.step("strike"):
            await outbox.strike(self._tools.database, self.lease, self.paid)
        self.paid = []

    async def _read(self, events: Sequence[AnyEvent]) -> Snapshot:
        with metrics.step("read"):
            return await load(self._tools.database, events, self.lease.session)

    def _give_up(self, event: AnyEvent) -> Decision:
        outcome = reject(event, INTERNAL_FAULT, site=self._tools.site, now_ms=_now_ms())
        return Decision(1, (), (Owed(event.room_id, (outcome,)),))

    async def _apply(self, events: Sequence[AnyEvent], decision: Decision, snapshot: Snapshot) -> Work:
        """Write the decision; the keys it stages are made here and exist nowhere else."""
        last = events[-1].origin
        after = Place(last.sequence, last.time_ns, self.place.created_ns)
        entries = outbox.entries(self.lease, decision.owed, events[0].origin.sequence)
        staged = {
            change.room.id: RoomKey.mint(change.stage) for change in decision.changes if change.stage is not None
        }
        with metrics.step("apply"):
            await apply(
                self._tools.database,
                self.lease,
                before=self.place,
                after=after,
                changes=decision.changes,
                staged=staged,
                owed=entries,
                paid=self.paid,
                now_ms=_now_ms(),
            )
        self.place, self.paid = after, []
        return Work(entries, _records(decision, snapshot, staged))

    async def _deliver(self, work: Work) -> None:
        with metrics.step("deliver"):
            mark = self._tools.broker.breaks
            await self._tools.courier.deliver(work.owed, work.records, self.lease.session, _now_ms())
            await self._confirm(mark)

    async def _settle(self, work: Work) -> None:
        with metrics.step("settle"):
            await self._settle_in_the_end(work.records)
        metrics.ROTATIONS.inc(sum(record.staged is not None for record in work.records.values()))

    async def _settle_in_the_end(self, records: Mapping[str, KeyRecord]) -> None:
        """Settle, however often other services' writes to `rooms` get in the way."""
        grace_ms = self._tools.settings.grace_ms
        for attempt in count():
            try:
                await settle(self._tools.database, self.lease, records, now_ms=_now_ms(), grace_ms=grace_ms)
            except Conflict:
                metrics.RETRIES.labels("conflict").inc()
                await asyncio.sleep(pause(attempt))
            else:
                return

    async def _announce(self, work: Work) -> None:
        with metrics.step("announce"):
            mark = self._tools.broker.breaks
            await self._tools.courier.announce(work.owed)
            await self._confirm(mark)

    async def _confirm(self, mark: int) -> None:
        if not await self._tools.broker.confirm(mark):
            metrics.RETRIES.labels("unconfirmed").inc()
            raise Passing("the broker did not confirm what was sent")


def _records(decision: Decision, snapshot: Snapshot, staged: Mapping[str, RoomKey]) -> dict[str, KeyRecord]:
    """Return the key records of the batch's rooms, with the keys that it staged."""
    rooms = [item.room_id for item in decision.owed if item.room_id is not None]
    records = {room_id: snapshot.rooms[room_id].keys for room_id in rooms if room_id in snapshot.rooms}
    return records | {room_id: records.get(room_id, KeyRecord()).staging(key) for room_id, key in staged.items()}


def _for_members(entry: Entry, members: Mapping[str, list[str]]) -> Entry:
    staying = set(members.get(entry.owed.room_id or "", ()))
    joiners = tuple(account for account in entry.owed.joiners if account in staying)
    return Entry(entry.id, replace(entry.owed, joiners=joiners))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
