"""Blame: what is to blame when nothing could be written, and what follows. (docs/design.md, "Blame")

A batch that fails is tried again one event at a time. If an event fails alone, its room is set aside; if even that
is refused, the database is in a bad condition, and the event stays where it is. The first event of a set-aside room
is tried again between two control transactions, and given up after it has failed between them often enough.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import Self

from roomkeys.errors import LeaseLost, Refused, TransientError, WriteConflict
from roomkeys.events.event import AnyEvent
from store.writes.waiting import StoredWaiting
from worker.limits import Limits
from worker.pipeline.failures.batch_sizer import BatchSizer, FailuresInPlace
from worker.pipeline.failures.set_aside import WaitingEvent, fields_of
from worker.pipeline.state.applied_batch import AppliedBatch
from worker.pipeline.state.partition_state import PartitionState
from worker.pipeline.writer import Writer
from worker.telemetry import metrics
from worker.telemetry.logs import logger, where
from worker.telemetry.outage import Outage

log = logger("blame")


@dataclass(frozen=True, slots=True)
class Blame:
    """The attempts to write of one partition under one lease, and the answers to their failures."""

    state: PartitionState
    writer: Writer
    sizer: BatchSizer
    limits: Limits
    condition: Outage
    in_place: FailuresInPlace

    @classmethod
    def of(cls, state: PartitionState, writer: Writer, sizer: BatchSizer, limits: Limits) -> Self:
        """Return what begins to watch a lease."""
        condition = Outage(f"database for partition {state.lease.partition}", log)
        return cls(state, writer, sizer, limits, condition, FailuresInPlace(limits))

    async def attempt(self, writing: Awaitable[AppliedBatch | None], event: AnyEvent | None) -> AppliedBatch | None:
        """Return what was applied; None, after a pause, if nothing was: the caller tries again.

        `event` is the only event of the attempt. If it fails again and again, its room is set aside.
        """
        before = self.state.position
        try:
            applied = await writing
        except WriteConflict as error:
            metrics.RETRIES.labels("conflict").inc()
            metrics.INTERRUPTIONS.labels(error.cause).inc()
            pause = self.sizer.on_conflict()
            is_set_aside = await self._answer_conflict(event, str(error))
        except Exception as error:
            if ends_lease(error):
                self.sizer.on_doubt(alone=event is not None)
                raise
            metrics.RETRIES.labels("unexpected").inc()
            pause = self.sizer.on_failure(alone=event is not None)
            is_set_aside = await self._answer_failure(event, _text(error))
        else:
            if applied is not None or self.state.position != before:  # events of set-aside rooms only wait
                self._succeeded()
            return applied
        if not is_set_aside:
            await asyncio.sleep(pause)
        return None

    async def set_suspect_aside(self, event: AnyEvent) -> bool:
        """Set aside the room of an event whose commit was in doubt again and again; False: it has to be tried."""
        return self.sizer.pop_suspicion() and await self._set_aside(event, "no answer to its commit")

    async def wait_for_place(self) -> None:
        """Wait a while: the next event of the partition has to wait for a set-aside room, and has no place."""
        self.condition.failed("too many events of set-aside rooms wait", set_aside_rooms=len(self.state.set_aside))
        await asyncio.sleep(self.state.set_aside.seconds_until_due(1.0))

    async def may_continue(self, event: AnyEvent) -> bool:
        """Write, if the event has failed in its place, the control transaction before its next attempt."""
        if not self.in_place.failures or await self._is_committed(event, None):
            return True
        self.in_place.clear()
        await asyncio.sleep(self.sizer.on_failure(alone=True))
        return False

    async def retry(self) -> AppliedBatch | None:
        """Try the first events of the set-aside room that is due; return what was applied, if anything was."""
        due = self.state.set_aside.due()
        if due is None:
            return None
        first, events = due
        stored = replace(first.stored, tries=first.stored.tries + 1)
        if not await self._is_committed(first.event, stored):
            self.state.set_aside.failed(first, replace(stored, failures=0))
            return None
        first.stored = stored
        try:
            applied = await self.writer.apply_waiting(events)
        except WriteConflict as error:
            metrics.RETRIES.labels("conflict").inc()
            metrics.INTERRUPTIONS.labels(error.cause).inc()
            self.state.set_aside.conflicted(first, str(error))
            return None
        except Exception as error:
            self.state.partial = None
            if ends_lease(error):
                raise
            if len(events) > 1:
                self.state.set_aside.try_alone(first)
                return None
            return await self._failed_again(first, _text(error))
        return applied

    async def _answer_conflict(self, event: AnyEvent | None, cause: str) -> bool:
        """Set aside the room of an event that another writer has held up for long; tell whether that was done."""
        if event is None or not self.sizer.should_set_aside:
            return False
        if self.state.position.slice is not None:
            self.condition.failed(cause, **fields_of(event))
            return False
        self.state.partial = None
        return await self._set_aside(event, cause)

    async def _answer_failure(self, event: AnyEvent | None, cause: str) -> bool:
        """Find out what is to blame for a failure; tell whether the event's room has been set aside."""
        if event is None:
            log.info("batch failed, trying its events alone", partition=self.state.lease.partition, cause=cause)
            return False
        if self.state.position.slice is None:
            self.state.partial = None
        if self.state.position.slice is None and self.state.set_aside.can_hold(event):
            return self.sizer.should_set_aside and await self._set_aside(event, cause)
        if not await self._is_committed(event, None):
            self.in_place.clear()
        elif self.in_place.count():
            self._report_failure(event, cause, self.in_place.failures)
        return False

    async def _set_aside(self, event: AnyEvent, cause: str) -> bool:
        """Set the event's room aside; False: it has no place, or the database refuses this too."""
        set_aside, partition = self.state.set_aside, self.state.lease.partition
        if event.room_id in set_aside or not set_aside.has_place_for(event):
            self.condition.failed(cause, **fields_of(event), set_aside_rooms=len(set_aside))
            return False
        try:
            await self.writer.set_aside(event)
        except Exception as error:
            if ends_lease(error):
                raise
            self._report_condition(error, event)
            return False
        self._succeeded()
        metrics.INTERRUPTIONS.labels("event").inc()
        log.warning("room is set aside because an event failed", partition=partition, **fields_of(event), cause=cause)
        return True

    async def _failed_again(self, waiting: WaitingEvent, cause: str) -> AppliedBatch | None:
        """Count a failure if the database takes the control transaction, or even the rejection, after it."""
        stored = replace(waiting.stored, failures=waiting.stored.failures + 1)
        given_up = None
        try:
            await self.writer.control(waiting.event, stored)
            self._report_failure(waiting.event, cause, stored.failures)
            if stored.failures >= self.limits.tries_before_dead_letter:
                given_up = await self.writer.give_up(waiting.event)
        except Exception as error:
            if ends_lease(error):
                raise
            self._report_condition(error, waiting.event)
            stored = replace(stored, failures=0)
        if given_up is None:
            self.state.set_aside.failed(waiting, stored)
        return given_up

    async def _is_committed(self, event: AnyEvent, stored: StoredWaiting | None) -> bool:
        """Tell whether the database takes the control transaction."""
        try:
            await self.writer.control(event, stored)
        except Exception as error:
            if ends_lease(error):
                raise
            self._report_condition(error, event)
            return False
        self.condition.ended()
        return True

    def _succeeded(self) -> None:
        self.sizer.on_success()
        self.condition.ended()
        self.in_place.clear()

    def _report_condition(self, error: Exception, event: AnyEvent) -> None:
        cause = error.cause if isinstance(error, TransientError) else "internal"
        metrics.INTERRUPTIONS.labels(cause).inc()
        self.condition.failed(_text(error), **fields_of(event))

    def _report_failure(self, event: AnyEvent, cause: str, failures: int) -> None:
        metrics.INTERRUPTIONS.labels("event").inc()
        attempt = f"{failures} of {self.limits.tries_before_dead_letter}"
        partition = self.state.lease.partition
        log.warning("event failed", partition=partition, **fields_of(event), attempt=attempt, cause=cause)


def ends_lease(error: Exception) -> bool:
    """Tell whether the lease is over: it is lost, or nobody knows whether something was written."""
    if isinstance(error, Refused | WriteConflict):
        return False
    return isinstance(error, LeaseLost | TransientError)


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, TransientError) else where(error)
