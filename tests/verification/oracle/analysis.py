"""A recording with its timeline, indexed once for all checks."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.verification.oracle.event_parser import is_recipient
from tests.verification.oracle.recording import NEVER, Message, MessageKind, Recording
from tests.verification.oracle.settlements import RoomState, Settlement, settlements
from tests.verification.oracle.timeline import Timeline, TimelineEntry, timeline

CLOCK_MS = 50
"""How far two clocks of one machine, or a timestamp and what it stamps, can be apart."""


@dataclass
class Analysis:
    """What the checks read.

    `first_sent` has, per (room, version), the first arrival at each account. `by_request` has the messages of
    each request id and kind, without ids that several events share: nobody can say which event such a message
    belongs to. `passes` has the accounts that each payload went to, for versions with more than one payload.
    `finished_ms` has, per event, the time by which everything that it causes had been sent: that of its result
    or of a later result of its room.
    """

    recording: Recording
    timeline: Timeline
    first_sent: dict[tuple[str, int], dict[str, int]]
    by_request: dict[tuple[str, MessageKind], list[Message]]
    passes: dict[tuple[str, int], list[set[str]]]
    finished_ms: dict[int, int] = field(default_factory=dict)

    def has_gap(self, since_ms: int, until_ms: int = NEVER) -> bool:
        """Return True if a listener may have missed messages that went out in this time."""
        gaps = self.recording.gaps
        return any(gap.since_ms <= until_ms + CLOCK_MS and since_ms - CLOCK_MS <= gap.until_ms for gap in gaps)

    def has_gap_during(self, entry: TimelineEntry) -> bool:
        """Return True if a listener may have missed messages that the event caused."""
        return self.has_gap(entry.event.at_ms, self.finished_ms.get(entry.sequence, NEVER))

    def listener_has_gap(self, listener: int, since_ms: int, arrival: int) -> bool:
        """Return True if the listener may have missed messages between a time and an arrival."""
        at_ms = self.recording.times[arrival]
        gaps = (gap for gap in self.recording.gaps if gap.listener == listener)
        return any(gap.since_ms <= at_ms + CLOCK_MS and since_ms - CLOCK_MS <= gap.until_ms for gap in gaps)

    def messages_of(self, entry: TimelineEntry, kind: MessageKind) -> list[Message]:
        """Return the messages of one kind that an event caused, in order of arrival."""
        return self.by_request.get((entry.event.request_id or "", kind), [])

    def must_get_keys(self, account: str) -> bool:
        """Return True if the worker must send keys to a member, and can."""
        return is_recipient(account) and account not in self.recording.denied

    def first_keys(self) -> Iterator[tuple[TimelineEntry, str, int]]:
        """Yield the first key of each account: the entry of the event that added it, and the arrival of the key.

        Accounts that joined their room more than once count only for the first time, and events whose messages may
        have been missed not at all. With several listeners it yields nothing: their arrivals cannot be compared.
        """
        if len(set(self.recording.listeners)) > 1:
            return
        first: dict[tuple[str, str], int] = {}
        for (room_id, _), accounts in self.first_sent.items():
            for account, arrival in accounts.items():
                first[room_id, account] = min(arrival, first.get((room_id, account), NEVER))
        for entry in self.timeline.by_request.values():
            room_id = entry.room or ""
            for account in entry.outcome.added:
                memberships = self.timeline.memberships.get((room_id, account), [])
                arrival = first.get((room_id, account), NEVER)
                joins_first = bool(memberships) and memberships[0][0] == entry.sequence
                if arrival != NEVER and joins_first and not self.has_gap_during(entry):
                    yield entry, account, arrival

    def settlements(self) -> Iterator[tuple[str, RoomState, Settlement]]:
        """Yield the room, its state and the settlement whenever a key becomes current."""
        return settlements(self.recording)


def analyse(recording: Recording) -> Analysis:
    """Index a recording."""
    of_recording = timeline(recording)
    by_request: defaultdict[tuple[str, MessageKind], list[Message]] = defaultdict(list)
    for message in recording.messages:
        if message.request_id not in of_recording.shared_requests:
            by_request[message.request_id or "", message.kind].append(message)
    analysis = Analysis(recording, of_recording, _first_sent(recording), dict(by_request), _passes(recording))
    for entries in of_recording.by_room().values():
        at_ms = NEVER
        for entry in reversed(entries):
            results = analysis.messages_of(entry, MessageKind.RESULT)
            at_ms = min([at_ms, *(recording.times[result.arrival] for result in results)])
            analysis.finished_ms[entry.sequence] = at_ms
    return analysis


def _first_sent(recording: Recording) -> dict[tuple[str, int], dict[str, int]]:
    first: dict[tuple[str, int], dict[str, int]] = {}
    payloads = recording.key_messages.payloads
    of_payload = [first.setdefault((payload.room, payload.version), {}) for payload in payloads]
    for account, payload, arrival in recording.key_messages:
        of_payload[payload].setdefault(account, arrival)
    return first


def _passes(recording: Recording) -> dict[tuple[str, int], list[set[str]]]:
    payloads = recording.key_messages.payloads
    counts = Counter((payload.room, payload.version) for payload in payloads)
    reached: dict[int, set[str]] = {
        index: set() for index, one in enumerate(payloads) if counts[one.room, one.version] > 1
    }
    for account, index, _ in recording.key_messages:
        if index in reached:
            reached[index].add(account)
    passes: defaultdict[tuple[str, int], list[set[str]]] = defaultdict(list)
    for index, accounts in reached.items():
        passes[payloads[index].room, payloads[index].version].append(accounts)
    return dict(passes)
