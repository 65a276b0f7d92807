"""The events that are not applied yet, by partition: counted in the stream itself."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from nats.js.api import RawStreamMsg, StreamState
from nats.js.errors import NotFoundError

from roomkeys.events.decode import parse, room_of
from roomkeys.events.position import partition_of
from roomkeys.subjects import operation_of
from worker.broker.connection import Broker

MOST_MESSAGES: Final = 10_000
"""How many messages are read at most. With more behind the cursors, the counts are lower bounds."""

_AT_ONCE: Final = 64
_MARKER: Final = "Nats-Marker-Reason"


@dataclass(slots=True)
class Pending:
    """How many events of a partition are not applied, and when the broker stored the first one."""

    events: int = 0
    oldest: datetime | None = None


async def pending_events(
    broker: Broker, stream: str, state: StreamState, applied: Mapping[int, int]
) -> tuple[dict[int, Pending], bool]:
    """Return what is pending after the sequence `applied` of each partition, and whether it is all of it."""
    pending = {partition: Pending() for partition in applied}
    if sorted(applied) != list(range(len(applied))):  # a cursor is missing: no partition can be told
        return {}, False
    first = max(min(applied.values(), default=state.last_seq) + 1, state.first_seq)
    last = min(state.last_seq, first + MOST_MESSAGES - 1)
    for start in range(first, last + 1, _AT_ONCE):
        sequences = range(start, min(start + _AT_ONCE, last + 1))
        for message in await asyncio.gather(*(_read(broker, stream, sequence) for sequence in sequences)):
            partition = None if message is None else _partition(message, len(applied))
            if message is not None and partition is not None and (message.seq or 0) > applied[partition]:
                pending[partition].events += 1
                pending[partition].oldest = pending[partition].oldest or message.time
    return pending, last == state.last_seq or first > last


async def _read(broker: Broker, stream: str, sequence: int) -> RawStreamMsg | None:
    """Return a message; None if it was deleted."""
    try:
        return await broker.jetstream.get_msg(stream, sequence)
    except NotFoundError:
        return None


def _partition(message: RawStreamMsg, partitions: int) -> int | None:
    """Return the partition of an event; None for a message that is no event of a worker."""
    if _MARKER in (message.headers or {}) or operation_of(message.subject or "") is None:
        return None
    return partition_of(room_of(parse(message.data or b"")), partitions)
