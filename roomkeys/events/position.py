"""Where a reader of the events stream stands: its position, its partition, and its progress in a sliced event."""

from dataclasses import dataclass
from zlib import crc32


@dataclass(frozen=True, slots=True)
class SliceProgress:
    """How far an event has been applied that is applied in slices.

    `number` slices have been written, for all accounts up to `after`. Some of what they did matters later:
    `rotates`: the room rotates in the last slice; `room_created`: the event created the room; `notice_sent`: the
    room has been sent a notice of the event.
    """

    number: int = 0
    after: str = ""
    rotates: bool = False
    room_created: bool = False
    notice_sent: bool = False


def partition_of(room_id: str | None, partitions: int) -> int:
    """Return the partition that owns the room; events without a room belong to partition 0."""
    return 0 if room_id is None else crc32(room_id.encode()) % partitions


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """A place in the stream: everything up to `sequence` has been applied.

    `time_ns` is the broker's time of that message and `created_ns` the stream's (epoch nanoseconds): they
    tell whether it still is the same stream. `slice`: how far the event after it has been applied, if in part.
    """

    sequence: int
    time_ns: int
    created_ns: int
    slice: SliceProgress | None = None
