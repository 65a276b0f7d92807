"""What the events alone demand: after each event the members and the version of its room, and its result."""

from collections import defaultdict
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field

from tests.unit.decisions.model import Model, ModelOutcome, ModelRoom
from tests.verification.oracle.event_parser import ParsedEvent, is_request_id, parse
from tests.verification.oracle.recording import Event, Recording


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One event and its outcome.

    `version` is that of its room afterwards; `rotated`: the event made this version.
    """

    event: Event
    parsed: ParsedEvent
    outcome: ModelOutcome
    version: int | None = None
    rotated: bool = False

    @property
    def sequence(self) -> int:
        """Return the stream sequence of the event."""
        return self.event.sequence

    @property
    def room(self) -> str | None:
        """Return the room that the event names."""
        return self.parsed.room

    @property
    def has_result(self) -> bool:
        """Return True if the requester must be sent a result."""
        return self.parsed.requester is not None and is_request_id(self.event.request_id)


@dataclass
class Timeline:
    """The outcomes of all events, in stream order.

    `rooms` are the rooms in the end. `made_by` has, per room and version, the sequence of the event that made
    it. `memberships` has, per room and account, the sequences of the events that began and ended each
    membership; None: it did not end. `shared_requests` are request ids of several events, which happens if a
    producer publishes again.
    """

    entries: list[TimelineEntry] = field(default_factory=list)
    rooms: dict[str, ModelRoom] = field(default_factory=dict)
    made_by: defaultdict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    memberships: defaultdict[tuple[str, str], list[tuple[int, int | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    by_request: dict[str, TimelineEntry] = field(default_factory=dict)
    shared_requests: frozenset[str] = frozenset()

    def was_member_since(self, room: str, account: str, sequence: int) -> bool:
        """Return True if the account was a member at any moment after that event."""
        return any(end is None or end > sequence for _, end in self.memberships.get((room, account), ()))

    def was_member_throughout(self, room: str, account: str, since: int, until: int) -> bool:
        """Return True if the account was a member from right after one event until right after another."""
        memberships = self.memberships.get((room, account), ())
        return any(begin <= since and (end is None or end > until) for begin, end in memberships)

    def has_key(self, room: str) -> bool:
        """Return True if the room must have a key in the end."""
        return room in self.rooms and self.rooms[room].has_key

    def by_room(self) -> dict[str, list[TimelineEntry]]:
        """Return the entries of each room."""
        found: defaultdict[str, list[TimelineEntry]] = defaultdict(list)
        for entry in self.entries:
            if entry.room is not None:
                found[entry.room].append(entry)
        return dict(found)


def timeline(recording: Recording) -> Timeline:
    """Apply the events to the model of the decisions, one at a time."""
    made = Timeline(rooms=deepcopy(recording.rooms_before))
    for room_id, room in made.rooms.items():
        if room.version is not None:
            made.made_by[room_id][room.version] = recording.applied_before
        for account in room.members:
            made.memberships[room_id, account] = [(recording.applied_before, None)]
    model = Model(made.rooms, recording.users, recording.site)
    for event in recording.events:
        parsed = parse(event)
        if parsed is not None:
            _add(made, _apply(model, event, parsed))
    requests = _by_request(made.entries)
    made.by_request = {name: entries[0] for name, entries in requests.items() if len(entries) == 1}
    made.shared_requests = frozenset(requests.keys() - made.by_request.keys())
    return made


def _apply(model: Model, event: Event, parsed: ParsedEvent) -> TimelineEntry:
    if parsed.refusal is not None or parsed.room is None:
        return TimelineEntry(event, parsed, ModelOutcome(error=parsed.refusal))
    before = _version(model, parsed.room)
    outcome = model.apply(parsed.suffix, parsed.body, event.at_ms)
    after = _version(model, parsed.room)
    return TimelineEntry(event, parsed, outcome, after, rotated=after != before)


def _version(model: Model, room_id: str) -> int | None:
    room = model.rooms.get(room_id)
    return None if room is None else room.version


def _add(made: Timeline, entry: TimelineEntry) -> None:
    made.entries.append(entry)
    room = entry.room
    if room is None:
        return
    if entry.rotated and entry.version is not None:
        made.made_by[room][entry.version] = entry.sequence
    for account in entry.outcome.removed:
        begin, _ = made.memberships[room, account].pop()
        made.memberships[room, account].append((begin, entry.sequence))
    for account in entry.outcome.added:
        made.memberships[room, account].append((entry.sequence, None))


def _by_request(entries: Iterable[TimelineEntry]) -> dict[str, list[TimelineEntry]]:
    """Return the entries of each valid request id."""
    found: defaultdict[str, list[TimelineEntry]] = defaultdict(list)
    for entry in entries:
        if entry.event.request_id is not None and is_request_id(entry.event.request_id):
            found[entry.event.request_id].append(entry)
    return dict(found)
