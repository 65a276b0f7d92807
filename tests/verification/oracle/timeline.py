"""What the event log alone says of a run: after each event its room's members and version, and its result."""

from collections import defaultdict
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field

from tests.unit.decisions.model import Model, ModelOutcome, ModelRoom
from tests.verification.oracle.recording import Event, Recording
from tests.verification.oracle.shape import Asked, is_request_id, read


@dataclass(frozen=True, slots=True)
class Step:
    """One event and what it came to; `version` is its room's after it, `rotated` whether it made that version."""

    event: Event
    asked: Asked
    told: ModelOutcome
    version: int | None = None
    rotated: bool = False

    @property
    def sequence(self) -> int:
        return self.event.sequence

    @property
    def room(self) -> str | None:
        return self.asked.room

    @property
    def answered(self) -> bool:
        """Tell whether a result is due."""
        return self.asked.requester is not None and is_request_id(self.event.request_id)


@dataclass
class Timeline:
    """`made` has the event that made each version of a room, `stays` when each account was a member.

    A stay is (from, until): it joined by the event `from` and left by the event `until`, None: it did not.
    `shared` are the request ids that several events have, as when one of them is published again.
    """

    steps: list[Step] = field(default_factory=list)
    rooms: dict[str, ModelRoom] = field(default_factory=dict)
    made: defaultdict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    stays: defaultdict[tuple[str, str], list[tuple[int, int | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    by_request: dict[str, Step] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()

    def was_member_since(self, room: str, account: str, sequence: int) -> bool:
        """Tell whether the account was a member at any moment from right after that event on."""
        return any(until is None or until > sequence for _, until in self.stays.get((room, account), ()))

    def was_member_throughout(self, room: str, account: str, since: int, until: int) -> bool:
        """Tell whether the account was a member from right after one event to right after another."""
        stays = self.stays.get((room, account), ())
        return any(joined <= since and (left is None or left > until) for joined, left in stays)

    def has_key(self, room: str) -> bool:
        """Tell whether the room has a key in the end."""
        return room in self.rooms and self.rooms[room].has_key

    def of_rooms(self) -> dict[str, list[Step]]:
        """Return each room's steps."""
        found: defaultdict[str, list[Step]] = defaultdict(list)
        for step in self.steps:
            if step.room is not None:
                found[step.room].append(step)
        return dict(found)


def timeline(recording: Recording) -> Timeline:
    """Let the model live through the events, one at a time."""
    made = Timeline(rooms=deepcopy(recording.before))
    for room_id, room in made.rooms.items():
        if room.version is not None:
            made.made[room_id][room.version] = recording.since
        for account in room.members:
            made.stays[room_id, account] = [(recording.since, None)]
    model = Model(made.rooms, recording.people, recording.site)
    for event in recording.events:
        asked = read(event)
        if asked is not None:
            _add(made, _step(model, event, asked))
    of_requests = _by_request(made.steps)
    made.by_request = {name: steps[0] for name, steps in of_requests.items() if len(steps) == 1}
    made.shared = frozenset(of_requests.keys() - made.by_request.keys())
    return made


def _step(model: Model, event: Event, asked: Asked) -> Step:
    if asked.refusal is not None or asked.room is None:
        return Step(event, asked, ModelOutcome(error=asked.refusal))
    before = _version(model, asked.room)
    told = model.apply(asked.suffix, asked.body, event.at_ms)
    after = _version(model, asked.room)
    return Step(event, asked, told, after, rotated=after != before)


def _version(model: Model, room_id: str) -> int | None:
    room = model.rooms.get(room_id)
    return None if room is None else room.version


def _add(made: Timeline, step: Step) -> None:
    made.steps.append(step)
    room = step.room
    if room is None:
        return
    if step.rotated and step.version is not None:
        made.made[room][step.version] = step.sequence
    for account in step.told.removed:
        since, _ = made.stays[room, account].pop()
        made.stays[room, account].append((since, step.sequence))
    for account in step.told.added:
        made.stays[room, account].append((step.sequence, None))


def _by_request(steps: Iterable[Step]) -> dict[str, list[Step]]:
    """Return the steps of each request id."""
    found: defaultdict[str, list[Step]] = defaultdict(list)
    for step in steps:
        if step.event.request_id is not None and is_request_id(step.event.request_id):
            found[step.event.request_id].append(step)
    return dict(found)
