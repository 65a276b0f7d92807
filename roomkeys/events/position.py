"""Positions in the events stream: how far it has been applied, also within an event in slices; and partitions."""

from dataclasses import dataclass
from zlib import crc32


@dataclass(frozen=True, slots=True)
class SliceProgress:
    """How far an event has come that is applied in slices. (docs/design.md, rule e)

    `number` slices have been applied, for all accounts up to `after`. `rotates`: the last slice has to rotate the
    room. `room_created`: a slice has created the room. `notice_sent`: a slice has sent the room its notice.
    """

    number: int = 0
    after: str = ""
    rotates: bool = False
    room_created: bool = False
    notice_sent: bool = False


def partition_of(room_id: str | None, partitions: int) -> int:
    """Return the partition of a room, from 0 to `partitions` - 1. Events without a room belong to partition 0."""
    return 0 if room_id is None else crc32(room_id.encode()) % partitions


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """A position in the stream: everything up to `sequence` has been applied.

    `time_ns` is when the broker stored that message, and `created_ns` when the stream was created (epoch
    nanoseconds). They tell whether it is still the same stream. `slice` is the progress of the event after it, if
    some of its slices have been applied. (docs/design.md, The feed)
    """

    sequence: int
    time_ns: int
    created_ns: int
    slice: SliceProgress | None = None
