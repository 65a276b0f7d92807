"""What a judge says, and what it says it about: a recording with its timeline, put in order once."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby

from tests.verification.oracle.recording import NEVER, Change, Heard, Kind, Recording, What
from tests.verification.oracle.shape import is_recipient
from tests.verification.oracle.timeline import Step, Timeline, timeline

CLOCK_MS = 50
"""How far two clocks of one machine, or a stamp and what it stamps, may be apart."""


class Invariant(StrEnum):
    """What must hold; design.md counts them otherwise, for it does not say how they are seen."""

    REACH = "reach"
    EXCLUSION = "exclusion"
    HOLD = "hold before use"
    ONE_KEY = "one key per version"
    RISE = "versions only rise"
    SAME_BYTES = "same bytes"
    ORDER = "order, once"
    RESULTS = "results"
    LETTERS = "dead letters"
    SIDE_DOOR = "no side door"


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold; the text names rooms, versions, accounts and sequences."""

    invariant: Invariant
    text: str


@dataclass
class Room:
    """A room at one moment of the oplog; `members` has the moment at which each account joined.

    `newcomers` has, for who joined since the last key became current, the version that was in use then.
    """

    members: dict[str, int] = field(default_factory=dict)
    newcomers: dict[str, int] = field(default_factory=dict)
    in_use: int | None = None
    high: int | None = None
    staged_at: dict[int, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settled:
    """A key that became current: when, how many messages had arrived then, and the room's highest version."""

    version: int
    at_ms: int
    heard: int
    staged_ms: int
    staged_moment: int
    high: int | None


@dataclass
class Case:
    """A recording, its timeline, and who was first sent what when.

    `told` leaves out what answers a request id that several events share: nobody can say which of them it answers.
    `passes` has whom each payload went to, for versions of which there was more than one. `done` says when
    everything that an event causes had been sent: when a result of its room came, its own or a later one.
    """

    recording: Recording
    timeline: Timeline
    sent: dict[tuple[str, int], dict[str, int]]
    told: dict[tuple[str, Kind], list[Heard]]
    passes: dict[tuple[str, int], list[set[str]]]
    done: dict[int, int] = field(default_factory=dict)

    def missed(self, since_ms: int, until_ms: int = NEVER) -> bool:
        """Tell whether some of what went out in this time may not have been heard."""
        gaps = self.recording.gaps
        return any(gap.since_ms <= until_ms + CLOCK_MS and since_ms - CLOCK_MS <= gap.until_ms for gap in gaps)

    def unheard(self, step: Step) -> bool:
        """Tell whether something that the event caused may not have been heard."""
        return self.missed(step.event.at_ms, self.done.get(step.sequence, NEVER))

    def missed_by(self, ear: int, since_ms: int, arrival: int) -> bool:
        """Tell whether the ear may have missed something that was sent after a time and before an arrival."""
        at_ms = self.recording.times[arrival]
        gaps = (gap for gap in self.recording.gaps if gap.ear == ear)
        return any(gap.since_ms <= at_ms + CLOCK_MS and since_ms - CLOCK_MS <= gap.until_ms for gap in gaps)

    def told_by(self, step: Step, kind: Kind) -> list[Heard]:
        """Return what an event's own messages of one kind were, as they came."""
        return self.told.get((step.event.request_id or "", kind), [])

    def is_recipient(self, account: str) -> bool:
        """Tell whether a member must be sent keys and can be."""
        return is_recipient(account) and account not in self.recording.denied

    def settles(self) -> Iterator[tuple[str, Room, Settled]]:
        """Live through the oplog; yield each room in the moment in which a key became current."""
        rooms: defaultdict[str, Room] = defaultdict(Room)
        for room_id, before in self.recording.before.items():
            rooms[room_id] = Room(dict.fromkeys(before.members, 0), {}, before.version, before.version)
        dated = zip(self.recording.changes, self.recording.heard_by, strict=True)
        for _, together in groupby(dated, key=lambda pair: pair[0].moment):
            of_moment = list(together)
            for change, _ in of_moment:
                _come_and_go(rooms[change.room], change)
            for change, heard in of_moment:
                settled = _change_keys(rooms[change.room], change, heard, self.recording.began_ms)
                if settled is not None:
                    yield change.room, rooms[change.room], settled
                    rooms[change.room].newcomers.clear()


def _come_and_go(room: Room, change: Change) -> None:
    if change.what is What.JOINED:
        room.members[change.account] = change.moment
        if room.in_use is not None:
            room.newcomers[change.account] = room.in_use
    elif change.what is What.LEFT:
        room.members.pop(change.account, None)
        room.newcomers.pop(change.account, None)


def _change_keys(room: Room, change: Change, heard: int, began_ms: int) -> Settled | None:
    """Change what the room's document says; return what became current, if anything did."""
    if change.what is What.HIGH:
        room.high = change.version
    elif change.what is What.STAGED and change.version is not None:
        room.staged_at[change.version] = (change.at_ms, change.moment)
    elif change.what is What.IN_USE:
        room.in_use = change.version
        if change.version is not None:
            staged_ms, staged_moment = room.staged_at.pop(change.version, (began_ms, change.moment))
            return Settled(change.version, change.at_ms, heard, staged_ms, staged_moment, room.high)
    return None


def case(recording: Recording) -> Case:
    """Put a recording in order."""
    sent: dict[tuple[str, int], dict[str, int]] = {}
    payloads = recording.keys.payloads
    of_payload = [sent.setdefault((payload.room, payload.version), {}) for payload in payloads]
    for account, payload, arrival in recording.keys:
        of_payload[payload].setdefault(account, arrival)
    of_run = timeline(recording)
    told: defaultdict[tuple[str, Kind], list[Heard]] = defaultdict(list)
    for heard in recording.heard:
        if heard.request_id not in of_run.shared:
            told[heard.request_id or "", heard.kind].append(heard)
    made = Case(recording, of_run, sent, dict(told), _passes(recording))
    for steps in made.timeline.of_rooms().values():
        at_ms = NEVER
        for step in reversed(steps):
            answers = made.told_by(step, Kind.RESULT)
            at_ms = min([at_ms, *(recording.times[answer.arrival] for answer in answers)])
            made.done[step.sequence] = at_ms
    return made


def _passes(recording: Recording) -> dict[tuple[str, int], list[set[str]]]:
    payloads = recording.keys.payloads
    counts = Counter((payload.room, payload.version) for payload in payloads)
    reached: dict[int, set[str]] = {
        number: set() for number, one in enumerate(payloads) if counts[one.room, one.version] > 1
    }
    for account, number, _ in recording.keys:
        if number in reached:
            reached[number].add(account)
    passes: defaultdict[tuple[str, int], list[set[str]]] = defaultdict(list)
    for number, accounts in reached.items():
        passes[payloads[number].room, payloads[number].version].append(accounts)
    return dict(passes)


Check = Callable[[Case], Iterator[Violation]]
