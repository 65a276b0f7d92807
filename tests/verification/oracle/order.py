"""Order, once: what a room tells comes in stream order, and rooms end as the log says. (design.md, 6)"""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence

import orjson

from tests.unit.decisions.model import ModelRoom, is_bot
from tests.verification.oracle.recording import Heard, Kind
from tests.verification.oracle.shape import is_token
from tests.verification.oracle.timeline import Step
from tests.verification.oracle.verdict import Case, Invariant, Violation


def once(case: Case) -> Iterator[Violation]:
    """Sent again, a notice or a result is the same bytes: a second decision would not be."""
    for (request_id, kind), messages in case.told.items():
        if kind is Kind.OTHER or not request_id:
            continue
        if request_id not in case.timeline.by_request:
            yield Violation(
                Invariant.ORDER, f"{kind} to {messages[0].to} answers request {request_id} of no event"
            )
            continue
        step = case.timeline.by_request[request_id]
        bodies: defaultdict[str, set[bytes]] = defaultdict(set)
        for heard in messages:
            for name in _about(heard):
                bodies[name].add(heard.body)
        for name, different in bodies.items():
            if len(different) > 1:
                text = (
                    f"event {step.sequence}: {kind} about {name} was sent with {len(different)} different bodies"
                )
                yield Violation(Invariant.ORDER, text)


def _about(heard: Heard) -> list[str]:
    """Return whom a message is about: a long list of accounts comes in several notices."""
    if heard.kind is not Kind.ROOM:
        return [heard.to]
    accounts = orjson.loads(heard.body).get("accounts") or []
    return accounts or [heard.to]


def in_order(case: Case) -> Iterator[Violation]:
    """To every listener what a room tells comes in the order of its events, each thing when it first comes."""
    ears = case.recording.ears
    last: dict[Hashable, tuple[int, Heard]] = {}
    seen: set[tuple[int, str | None, Kind, str]] = set()
    for heard in case.recording.heard:
        step = case.timeline.by_request.get(heard.request_id or "")
        thing = (ears[heard.arrival], heard.request_id, heard.kind, heard.to)
        if step is None or step.room is None or heard.kind is Kind.OTHER or thing in seen:
            continue
        seen.add(thing)
        line = (ears[heard.arrival], heard.kind, step.room, heard.to if heard.kind is Kind.UPDATE else "")
        later = last.get(line)
        if later is None or later[0] < step.sequence:
            last[line] = (step.sequence, heard)
        elif not case.missed_by(ears[heard.arrival], step.event.at_ms, later[1].arrival):
            text = f"{step.room}: {heard.kind} of event {step.sequence} to {heard.to} came after that of event"
            yield Violation(Invariant.ORDER, f"{text} {later[0]}")


def notices(case: Case) -> Iterator[Violation]:
    """Told are those whom an event admits and removes, and the room, and nobody else."""
    if not {Kind.UPDATE, Kind.ROOM} <= case.recording.kinds:
        return
    for step in case.timeline.by_request.values():
        told = _updates(case.told_by(step, Kind.UPDATE))
        expected = {(who, "added") for who in step.told.added} | {(who, "removed") for who in step.told.removed}
        expected = {(who, action) for who, action in expected if is_token(who)}
        unheard = case.unheard(step)
        if told - expected or (expected - told and not unheard):
            yield Violation(Invariant.ORDER, f"event {step.sequence} told {_short(told)}, not {_short(expected)}")
        yield from _room_notice(case, step, unheard=unheard)


def _updates(messages: Sequence[Heard]) -> set[tuple[str, str]]:
    return {(heard.to, str(orjson.loads(heard.body)["action"])) for heard in messages}


def _room_notice(case: Case, step: Step, *, unheard: bool) -> Iterator[Violation]:
    bodies = [orjson.loads(heard.body) for heard in case.told_by(step, Kind.ROOM)]
    types = {body["type"] for body in bodies}
    accounts = {account for body in bodies for account in body["accounts"]}
    expected = {step.told.notice} - {None}
    changed = (step.told.added or step.told.removed) if expected else frozenset[str]()
    if types - expected or accounts - changed or (not unheard and (types, accounts) != (expected, set(changed))):
        text = f"event {step.sequence} told its room {_short(types)} about {len(accounts)} accounts"
        yield Violation(Invariant.ORDER, f"{text}, not {_short(expected)} about {len(changed)}")


def _short(things: set[tuple[str, str]] | set[str] | set[str | None]) -> str:
    shown = [str(thing) for thing in list(things)[:5]]
    return f"{len(things)} ({', '.join(sorted(shown))})"


def ending(case: Case) -> Iterator[Violation]:
    """In the end the documents say what the log says, every key has settled, and nothing is owed."""
    recording = case.recording
    if recording.outbox:
        yield Violation(Invariant.ORDER, f"the outbox still owes {recording.outbox} entries")
    for room_id in sorted(case.timeline.rooms.keys() | recording.rooms.keys()):
        wanted = case.timeline.rooms.get(room_id)
        if wanted is None or room_id not in recording.rooms:
            yield Violation(Invariant.ORDER, f"{room_id}: the log and the database do not both know it")
            continue
        for name, found, right in _compared(case, room_id, wanted):
            if found != right:
                yield Violation(Invariant.ORDER, f"{room_id}: {name} {_told(found)}, by the log {_told(right)}")


def _compared(case: Case, room_id: str, wanted: ModelRoom) -> Iterator[tuple[str, object, object]]:
    recording, document = case.recording, case.recording.rooms[room_id]
    bots = sum(map(is_bot, wanted.members))
    yield "kind", document.kind, wanted.kind
    yield "members", recording.members.get(room_id, {}), wanted.members
    yield "people and bots", (document.users, document.apps), (len(wanted.members) - bots, bots)
    yield "orgs", sorted(recording.orgs.get(room_id, [])), sorted(wanted.orgs)
    yield "individuals", sorted(recording.individuals.get(room_id, [])), sorted(wanted.individuals)
    if wanted.kind == "channel":
        yield "version", document.version, wanted.version
        yield "staged version", document.staged, None


def _told(value: object) -> str:
    """Return a value as a failure shows it: of many accounts the first ones."""
    if isinstance(value, dict | list) and len(value) > 12:
        return f"{str(sorted(value)[:12])[:-1]}, … {len(value)} in all]"
    return str(value)
