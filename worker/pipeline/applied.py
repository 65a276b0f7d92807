"""Work: what a batch has left to be done once it has been applied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from roomkeys.decisions.decision import Decision, OutboxEntry, RoomChange
from roomkeys.decisions.snapshot import Snapshot
from roomkeys.keys import RoomKey
from roomkeys.membership import Member, Room
from store.writes.outbox import StoredEntry


@dataclass(frozen=True, slots=True)
class AppliedBatch:
    """What has been applied: what it owes, and its rooms with their keys and sizes as it left them.

    `survivors` are the accounts, as they are stored, of those rooms of which it is known who was left.
    """

    entries: Sequence[StoredEntry] = ()
    rooms: Mapping[str, Room] = field(default_factory=dict)
    remaining_members: Mapping[str, Sequence[object]] = field(default_factory=dict)

    @property
    def owed(self) -> list[OutboxEntry]:
        """Return what is owed, without the outbox's ids."""
        return [entry.owed for entry in self.entries]

    def current_keys(self, room_ids: Mapping[str, object]) -> dict[str, RoomKey]:
        """Return the keys in use of those among these rooms that have one."""
        keys = ((room_id, self.rooms[room_id].keys.current) for room_id in room_ids if room_id in self.rooms)
        return {room_id: key for room_id, key in keys if key is not None}


def rooms_after(decision: Decision, snapshot: Snapshot, staged: Mapping[str, RoomKey]) -> dict[str, Room]:
    """Return a batch's rooms as it leaves them, with the keys that it staged."""
    owed = [item.room_id for item in decision.owed if item.room_id is not None]
    rooms = {room_id: snapshot.rooms[room_id] for room_id in owed if room_id in snapshot.rooms}
    for change in decision.changes:
        keys = change.room.keys
        if change.room.id in staged:
            keys = keys.with_staged(staged[change.room.id])
        elif change.high is not None:
            keys = replace(keys, high=change.high, highest_seen=change.high)
        size = change.room.size + change.users_delta + change.apps_delta
        rooms[change.room.id] = replace(change.room, keys=keys, size=size)
    return rooms


def survivors_after(decision: Decision, snapshot: Snapshot) -> dict[str, Sequence[object]]:
    """Return who is left in the rooms whose key the batch stages, where everybody was known before it."""
    return {
        change.room.id: _survivors(
            change, snapshot.everybody[change.room.id], snapshot.members.get(change.room.id, {})
        )
        for change in decision.changes
        if change.stage is not None and change.room.id in snapshot.everybody
    }


def _survivors(change: RoomChange, everybody: Sequence[object], members: Mapping[str, Member]) -> Sequence[object]:
    left = set(change.left)
    went = {member.account for member in members.values() if member.id in left}
    came = [membership.account for membership in change.joined]
    return [one for one in everybody if type(one) is not str or one not in went] + came
