"""Invariant 6, order, once: rooms, notices and repeated messages agree with the events, in stream order."""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence

import orjson

from tests.unit.decisions.model import ModelRoom, is_bot
from tests.verification.oracle.analysis import Analysis
from tests.verification.oracle.event_parser import is_token
from tests.verification.oracle.recording import NEVER, Message, MessageKind
from tests.verification.oracle.timeline import TimelineEntry


def every_version_has_an_event(analysis: Analysis) -> Iterator[str]:
    """Every version that was sent was made by an event."""
    for room_id, version in analysis.first_sent:
        if room_id and version not in analysis.timeline.made_by.get(room_id, {}):
            yield f"{room_id}: version {version} was sent, which no event made"


def repeated_messages_are_identical(analysis: Analysis) -> Iterator[str]:
    """Every copy of a notice or result has the same bytes; after a second decision it would not."""
    for (request_id, kind), messages in analysis.by_request.items():
        if kind is MessageKind.OTHER or not request_id:
            continue
        if request_id not in analysis.timeline.by_request:
            yield f"a {kind} to {messages[0].to} answers the request {request_id} of no event"
            continue
        entry = analysis.timeline.by_request[request_id]
        bodies: defaultdict[str, set[bytes]] = defaultdict(set)
        for message in messages:
            for name in _about(message):
                bodies[name].add(message.body)
        for name, different in bodies.items():
            if len(different) > 1:
                yield f"event {entry.sequence}: its {kind} about {name} has {len(different)} different bodies"


def _about(message: Message) -> list[str]:
    """Return what a message is about: a long list of accounts comes in several room notices."""
    if message.kind is not MessageKind.ROOM_NOTICE:
        return [message.to]
    accounts = orjson.loads(message.body).get("accounts") or []
    return accounts or [message.to]


def messages_are_in_stream_order(analysis: Analysis) -> Iterator[str]:
    """Each listener first receives the messages of a room in the order of its events."""
    recording = analysis.recording
    last: dict[Hashable, tuple[int, Message]] = {}
    seen: set[Hashable] = set()
    for message in recording.messages:
        listener = recording.listeners[message.arrival]
        entry = analysis.timeline.by_request.get(message.request_id or "")
        same = (listener, message.request_id, message.kind, message.to)
        if entry is None or entry.room is None or message.kind is MessageKind.OTHER or same in seen:
            continue
        seen.add(same)
        to = message.to if message.kind is MessageKind.ACCOUNT_NOTICE else ""
        line = (listener, message.kind, entry.room, to)
        later = last.get(line)
        if later is None or later[0] < entry.sequence:
            last[line] = (entry.sequence, message)
        elif not analysis.listener_has_gap(listener, entry.event.at_ms, later[1].arrival):
            text = f"{entry.room}: the {message.kind} of event {entry.sequence} to {message.to} came after that of"
            yield f"{text} event {later[0]}"


def notices_match_the_events(analysis: Analysis) -> Iterator[str]:
    """Every account that an event adds or removes, and its room, gets a notice; nothing else does."""
    if not {MessageKind.ACCOUNT_NOTICE, MessageKind.ROOM_NOTICE} <= analysis.recording.kinds:
        return
    for entry in analysis.timeline.by_request.values():
        outcome, has_gap = entry.outcome, analysis.has_gap_during(entry)
        found = _actions(analysis.messages_of(entry, MessageKind.ACCOUNT_NOTICE))
        expected = {(one, "added") for one in outcome.added} | {(one, "removed") for one in outcome.removed}
        expected = {(account, action) for account, action in expected if is_token(account)}
        if found - expected or (expected - found and not has_gap):
            yield f"event {entry.sequence} notified {_short(found)} instead of {_short(expected)}"
        yield from _room_notice(analysis, entry, has_gap=has_gap)


def _actions(messages: Sequence[Message]) -> set[tuple[str, str]]:
    return {(message.to, str(orjson.loads(message.body)["action"])) for message in messages}


def _room_notice(analysis: Analysis, entry: TimelineEntry, *, has_gap: bool) -> Iterator[str]:
    bodies = [orjson.loads(message.body) for message in analysis.messages_of(entry, MessageKind.ROOM_NOTICE)]
    types = {body["type"] for body in bodies}
    accounts = {account for body in bodies for account in body["accounts"]}
    outcome = entry.outcome
    expected = {outcome.notice} - {None}
    changed = (outcome.added or outcome.removed) if expected else frozenset[str]()
    differs = (types, accounts) != (expected, set(changed))
    if types - expected or accounts - changed or (differs and not has_gap):
        text = f"event {entry.sequence} notified its room of {_short(types)} with {len(accounts)} accounts"
        yield f"{text} instead of {_short(expected)} with {len(changed)}"


def _short(things: set[tuple[str, str]] | set[str] | set[str | None]) -> str:
    shown = [str(thing) for thing in list(things)[:5]]
    return f"{len(things)} ({', '.join(sorted(shown))})"


def notice_comes_before_the_first_key(analysis: Analysis) -> Iterator[str]:
    """Each account that joins a room for the first time gets its notice before its first key."""
    if MessageKind.ACCOUNT_NOTICE not in analysis.recording.kinds:
        return
    for entry, account, first_key in analysis.first_keys():
        notices = analysis.messages_of(entry, MessageKind.ACCOUNT_NOTICE)
        notice = min((message.arrival for message in notices if message.to == account), default=NEVER)
        if first_key < notice:
            yield f"{entry.room}: {account} was sent a key before the notice that it joined"


def database_matches_the_events(analysis: Analysis) -> Iterator[str]:
    """In the end the documents say what the events demand, every key has settled, and the outbox is empty."""
    recording = analysis.recording
    if recording.outbox:
        yield f"the outbox still has {recording.outbox} entries"
    for room_id in sorted(analysis.timeline.rooms.keys() | recording.rooms.keys()):
        expected = analysis.timeline.rooms.get(room_id)
        if expected is None or room_id not in recording.rooms:
            yield f"{room_id}: only one of the events and the database has it"
            continue
        for name, found, right in _compared(analysis, room_id, expected):
            if found != right:
                yield f"{room_id}: {name}: {_limited(found)} instead of {_limited(right)}"


def _compared(analysis: Analysis, room_id: str, expected: ModelRoom) -> Iterator[tuple[str, object, object]]:
    recording, document = analysis.recording, analysis.recording.rooms[room_id]
    bots = sum(map(is_bot, expected.members))
    yield "kind", document.kind, expected.kind
    yield "members", recording.members.get(room_id, {}), expected.members
    yield "people and bots", (document.users, document.apps), (len(expected.members) - bots, bots)
    yield "orgs", sorted(recording.orgs.get(room_id, [])), sorted(expected.orgs)
    yield "individuals", sorted(recording.individuals.get(room_id, [])), sorted(expected.individuals)
    if expected.kind == "channel":
        yield "version", document.version, expected.version
        yield "staged version", document.staged, None


def _limited(value: object) -> str:
    """Return a value as a failure shows it: only the first of many accounts."""
    if isinstance(value, dict | list) and len(value) > 12:
        return f"{str(sorted(value)[:12])[:-1]}, … {len(value)} in all]"
    return str(value)
