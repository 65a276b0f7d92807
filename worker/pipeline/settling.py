"""Settling: the staged keys of several rooms become current together, or each alone, or later.

A room whose key cannot settle must not hold up the other rooms of its partition. (docs/design.md, invariant 7)
"""

import asyncio
import time
from collections.abc import Mapping

from roomkeys.errors import DatabaseError, Refused, WriteConflict
from roomkeys.keys import KeyRecord, RoomKey
from worker.pipeline.failures.batch_sizer import conflict_backoff
from worker.pipeline.writer import Writer
from worker.telemetry import metrics


async def settle_or_postpone(
    writer: Writer, records: Mapping[str, KeyRecord], following: Mapping[str, RoomKey]
) -> Mapping[str, KeyRecord]:
    """Make the staged keys current, and return the rooms in which that succeeded.

    If it is refused, or other services' writes to `rooms` conflict with it for long, each room is tried alone. One
    that fails alone is postponed: the loop settles it later, as it does after a rollout.
    """
    error = await _failure(writer, records, following, writer.limits.conflict_s)
    if error is None:
        return records
    failures: dict[str, DatabaseError | None] = dict.fromkeys(records, error)
    if len(records) > 1:
        for room_id, record in records.items():
            failures[room_id] = await _failure(writer, {room_id: record}, following, 0.0)
    for room_id, failure in failures.items():
        if failure is not None:
            metrics.INTERRUPTIONS.labels(failure.cause).inc()
            writer.state.large_rooms.postpone(room_id, records[room_id], str(failure))
    return {room_id: records[room_id] for room_id, failure in failures.items() if failure is None}


async def _failure(
    writer: Writer, records: Mapping[str, KeyRecord], following: Mapping[str, RoomKey], patience_s: float
) -> DatabaseError | None:
    """Settle these rooms in one transaction; return why nothing was written, or None."""
    next_keys = {room_id: following[room_id] for room_id in records.keys() & following.keys()}
    backoff, since = conflict_backoff(), time.monotonic()
    while True:
        try:
            await writer.settle(records, next_keys)
        except WriteConflict as error:  # other services write to `rooms` too
            metrics.RETRIES.labels("conflict").inc()
            if time.monotonic() - since >= patience_s:
                return error
            await asyncio.sleep(backoff.next())
        except Refused as error:
            return error
        else:
            return None
