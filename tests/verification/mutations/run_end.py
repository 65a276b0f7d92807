"""When the run of a broken worker is over: much that it should do, it never does."""

import asyncio
import time
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from roomkeys.subjects import events_stream
from tests.harness.site import Rig
from tests.verification.oracle.analysis import analyse
from tests.verification.oracle.checks import exclusion, hold_before_use, key_leaks, keys
from tests.verification.oracle.recorder import Recorder
from tests.verification.oracle.recorder.streams import last_sequence
from tests.verification.oracle.recording import Recording
from tests.verification.oracle.violation import Find

UNTIL_GIVEN_UP = 8.0
"""Seconds after which the run ends although the worker still has something to do."""

IDLE_SECONDS = 1.0
"""Seconds without anything to do after which the worker will not send what is missing."""

LOOK_SECONDS = 0.05
CHECK_SECONDS = 0.25

FINAL: Collection[Find] = {
    exclusion.new_key_is_in_use_before_the_result,
    exclusion.no_later_key_after_a_removal,
    hold_before_use.members_have_the_key_before_use,
    key_leaks.no_message_has_a_key,
    keys.one_key_per_version,
    keys.one_version_per_key,
    keys.versions_rise,
}
"""The checks whose findings stay true whatever the worker does afterwards."""


async def record_run(
    scenario: AbstractAsyncContextManager[object], rig: Rig, record: Recorder, found_by: Find | None
) -> Recording:
    """Run a scenario until its worker has nothing left to do, and return the recording.

    If the check `found_by` is one of `FINAL`, the run ends as soon as it finds something.
    """
    run = asyncio.create_task(_until_idle(scenario, rig, record))
    check = asyncio.create_task(_until_found(record, found_by))
    both: tuple[asyncio.Task[Any], ...] = run, check
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in both:
            task.cancel()
        await asyncio.wait(both)
    if run.cancelled():
        check.result()
        return await record.read()
    return run.result()


async def _until_idle(scenario: AbstractAsyncContextManager[object], rig: Rig, record: Recorder) -> Recording:
    async with scenario:
        started = idle_since = time.monotonic()
        while time.monotonic() - started < UNTIL_GIVEN_UP:
            if await _is_busy(rig):
                idle_since = time.monotonic()
            elif not record.missing_results() or time.monotonic() - idle_since > IDLE_SECONDS:
                break
            await asyncio.sleep(LOOK_SECONDS)
        return await record.read()


async def _is_busy(rig: Rig) -> bool:
    """Return whether an event has not been applied, a key is staged or the outbox has an entry."""
    if (task := asyncio.current_task()) is not None and task.cancelling():
        raise asyncio.CancelledError  # the driver swallows one that comes right after it has sent a command
    last = await last_sequence(rig.nc, events_stream(rig.site))
    return bool(
        await rig.db.room_worker_cursors.count_documents({"site": rig.site, "applied": {"$lt": last}})
        or await rig.db.rooms.count_documents({"keyRotation.staged": {"$exists": True}})
        or await rig.db.room_worker_outbox.count_documents({})
    )


async def _until_found(record: Recorder, found_by: Find | None) -> None:
    """Return once the check has found something, if that is final; otherwise never.

    What is read from a run in progress is not from one moment: a finding counts if the next reading has it too.
    """
    before: set[str] = set()
    while found_by is not None and found_by in FINAL:
        await asyncio.sleep(CHECK_SECONDS)
        found = set(found_by(analyse(_dated(await record.read()))))
        if found & before:
            return
        before = found
    await asyncio.Event().wait()


def _dated(recording: Recording) -> Recording:
    """Leave out the last changes: it is not known yet which messages had arrived before them."""
    count = len(recording.arrived_by)
    return replace(recording, changes=recording.changes[:count], arrived_by=recording.arrived_by[:count])
