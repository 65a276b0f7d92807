"""Replays the oplog and yields each room at the moment at which a key becomes current."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

from tests.verification.oracle.recording import Change, ChangeKind, Recording


@dataclass
class RoomState:
    """A room at one moment of the oplog.

    `members` has the cluster time at which each account joined. `new_members` has, for the accounts that joined
    since the last key became current, the version that was current when they joined. `staged_at` has the time
    (epoch milliseconds) and the cluster time at which each version was staged.
    """

    members: dict[str, int] = field(default_factory=dict)
    new_members: dict[str, int] = field(default_factory=dict)
    current: int | None = None
    high: int | None = None
    staged_at: dict[int, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settlement:
    """A key that became current. `arrived` is how many messages had arrived by then, `high` that of the room."""

    version: int
    at_ms: int
    arrived: int
    staged_ms: int
    staged_time: int
    high: int | None


def settlements(recording: Recording) -> Iterator[tuple[str, RoomState, Settlement]]:
    """Yield the room, its state and the settlement whenever a key becomes current."""
    rooms: defaultdict[str, RoomState] = defaultdict(RoomState)
    for room_id, before in recording.rooms_before.items():
        rooms[room_id] = RoomState(dict.fromkeys(before.members, 0), {}, before.version, before.version)
    dated = zip(recording.changes, recording.arrived_by, strict=True)
    for _, group in groupby(dated, key=lambda pair: pair[0].cluster_time):
        transaction = list(group)
        for change, _ in transaction:
            _change_members(rooms[change.room], change)
        for change, arrived in transaction:
            settlement = _change_keys(rooms[change.room], change, arrived, recording.started_ms)
            if settlement is not None:
                yield change.room, rooms[change.room], settlement
                rooms[change.room].new_members.clear()


def _change_members(room: RoomState, change: Change) -> None:
    if change.kind is ChangeKind.JOINED:
        room.members[change.account] = change.cluster_time
        if room.current is not None:
            room.new_members[change.account] = room.current
    elif change.kind is ChangeKind.LEFT:
        room.members.pop(change.account, None)
        room.new_members.pop(change.account, None)


def _change_keys(room: RoomState, change: Change, arrived: int, started_ms: int) -> Settlement | None:
    """Apply a change of the room's document; return the settlement if a key became current."""
    if change.kind is ChangeKind.HIGH:
        room.high = change.version
    elif change.kind is ChangeKind.STAGED and change.version is not None:
        room.staged_at[change.version] = (change.at_ms, change.cluster_time)
    elif change.kind is ChangeKind.CURRENT:
        room.current = change.version
        if change.version is not None:
            staged_ms, staged_time = room.staged_at.pop(change.version, (started_ms, change.cluster_time))
            return Settlement(change.version, change.at_ms, arrived, staged_ms, staged_time, room.high)
    return None
