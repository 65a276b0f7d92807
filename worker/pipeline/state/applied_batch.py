"""An applied batch, and the plan that says how its staged keys reach their members."""

from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace

from roomkeys.decisions.decision import Decision, OutboxEntry, RoomChange
from roomkeys.decisions.snapshot import Snapshot
from roomkeys.keys import KeyRecord, RoomKey
from roomkeys.membership import Room
from roomkeys.messages.frame import split
from store.writes.outbox import StoredEntry
from worker.limits import Limits


@dataclass(frozen=True, slots=True)
class AppliedBatch:
    """A batch after its transaction: its outbox entries, and its rooms with their keys and sizes.

    `remaining_members` has the accounts, as they are stored, of those rooms whose members are all known.
    """

    entries: Sequence[StoredEntry] = ()
    rooms: Mapping[str, Room] = field(default_factory=dict)
    remaining_members: Mapping[str, Sequence[object]] = field(default_factory=dict)

    @property
    def contents(self) -> list[OutboxEntry]:
        """Return the entries without their ids."""
        return [entry.content for entry in self.entries]

    def current_keys(self, room_ids: Mapping[str, object]) -> dict[str, RoomKey]:
        """Return the current keys of those rooms among `room_ids` that have one."""
        keys = ((room_id, self.rooms[room_id].keys.current) for room_id in room_ids if room_id in self.rooms)
        return {room_id: key for room_id, key in keys if key is not None}


@dataclass(frozen=True, slots=True)
class FanoutPlan:
    """How the staged keys of a batch reach the members of their rooms: each key is either `inline` or `large`.

    `inline` keys go out with the batch and settle with it; `large` rooms begin a rollout beside the loop. Rooms
    whose staged key is in a rollout already are in neither.
    """

    inline: Mapping[str, KeyRecord] = field(default_factory=dict)
    large: Mapping[str, KeyRecord] = field(default_factory=dict)

    def given_denials(
        self, denied: Collection[str], members: Mapping[str, Sequence[object]], sent: Mapping[str, int]
    ) -> "FanoutPlan":
        """Return the plan after the accounts that were `denied` a key, which the loop has sent, are known.

        A room none of whose members could be sent its key becomes large: its rollout tries again. So does a room
        whose `members` are not known here, unless it was `sent` to more accounts than were denied.
        """
        if not denied:
            return self
        unreached = {
            room_id
            for room_id in self.inline
            if (nobody_reached(members[room_id], denied) if room_id in members else sent[room_id] <= len(denied))
        }
        inline = {room_id: record for room_id, record in self.inline.items() if room_id not in unreached}
        return FanoutPlan(inline, {**self.large, **{room_id: self.inline[room_id] for room_id in unreached}})

    @property
    def inline_keys(self) -> dict[str, RoomKey]:
        """Return the staged keys that go out with the batch, by room."""
        keys = ((room_id, record.staged) for room_id, record in self.inline.items())
        return {room_id: key for room_id, key in keys if key is not None}


def nobody_reached(members: Sequence[object], denied: Collection[str]) -> bool:
    """Tell whether every one of these members that can be published to was denied the key, and there is one."""
    accounts = split(members).accounts
    return bool(accounts) and all(account in denied for account in accounts)


def plan_fanout(rooms: Mapping[str, Room], in_rollout: Container[str], limits: Limits, *, settles: bool) -> FanoutPlan:
    """Plan the fan-out of the staged keys, small rooms first; leave out rooms `in_rollout`.

    Without `settles` every room is planned as large: no room settles between the slices of an event.
    """
    inline: dict[str, KeyRecord] = {}
    large: dict[str, KeyRecord] = {}
    recipients = 0
    for room in sorted(rooms.values(), key=lambda room: room.size):
        if room.keys.staged is None or room.id in in_rollout:
            continue
        recipients += room.size
        fits = room.size <= limits.large_room_members and recipients <= limits.inline_recipients
        (inline if settles and fits else large)[room.id] = room.keys
    return FanoutPlan(inline, large)


def rooms_after(decision: Decision, snapshot: Snapshot, staged: Mapping[str, RoomKey]) -> dict[str, Room]:
    """Return a batch's rooms as the batch leaves them, with the keys that it staged."""
    room_ids = [entry.room_id for entry in decision.entries if entry.room_id is not None]
    rooms = {room_id: snapshot.rooms[room_id] for room_id in room_ids if room_id in snapshot.rooms}
    for change in decision.changes:
        keys = change.room.keys
        if change.room.id in staged:
            keys = keys.with_staged(staged[change.room.id])
        elif change.high is not None:
            keys = keys.with_high(change.high)
        size = change.room.size + change.users_delta + change.apps_delta
        rooms[change.room.id] = replace(change.room, keys=keys, size=size)
    return rooms


def remaining_members(decision: Decision, snapshot: Snapshot) -> dict[str, Sequence[object]]:
    """Return the members of the rooms whose key the batch stages, where the snapshot has everybody."""
    return {
        change.room.id: _remaining(change, snapshot.everybody[change.room.id])
        for change in decision.changes
        if change.stage is not None and change.room.id in snapshot.everybody
    }


def _remaining(change: RoomChange, everybody: Sequence[object]) -> Sequence[object]:
    removed = set(change.left)
    joined = [membership.account for membership in change.joined]
    return [account for account in everybody if type(account) is not str or account not in removed] + joined
