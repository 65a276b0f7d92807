"""Reach, exclusion, and hold before use: who was sent which key, and when. (design.md, 1 to 3)"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate

from tests.verification.oracle.recording import NEVER, Kind, What
from tests.verification.oracle.verdict import CLOCK_MS, Case, Invariant, Room, Settled, Violation

_SHOWN = 5


def hold(case: Case) -> Iterator[Violation]:
    """Who is a member when a key becomes current has been sent it, and who joined since, the one before it."""
    for room_id, room, settled in case.settles():
        if case.missed(settled.staged_ms, settled.at_ms):
            continue
        late = _not_sent(case, room_id, settled.version, room.members, settled.heard)
        if late:
            text = f"{room_id}: version {settled.version} became current before it was sent to {_some(late)}"
            yield Violation(Invariant.HOLD, text)
        yield from _newcomers(case, room_id, room, settled)
        yield from _one_pass(case, room_id, room, settled)


def _newcomers(case: Case, room_id: str, room: Room, settled: Settled) -> Iterator[Violation]:
    """Who joined since the last key became current was sent that one, which messages were sealed with."""
    for account, version in room.newcomers.items():
        joined_ms = (room.members[account] >> 32) * 1000  # a moment begins with its second
        if case.is_recipient(account) and not case.missed(joined_ms, settled.at_ms):
            first = case.sent.get((room_id, version), {}).get(account, NEVER)
            if first >= settled.heard:
                text = f"{room_id}: {account} joined at version {version} and was not sent it"
                yield Violation(Invariant.REACH, f"{text} before version {settled.version} became current")


def _one_pass(case: Case, room_id: str, room: Room, settled: Settled) -> Iterator[Violation]:
    """One payload has reached everybody who was a member all the while: a fan-out is stamped once."""
    stayed = {account for account, joined in room.members.items() if joined <= settled.staged_moment}
    stayed = set(filter(case.is_recipient, stayed))
    passes = case.passes.get((room_id, settled.version), [])
    if passes and not any(stayed <= reached for reached in passes):
        text = f"{room_id}: no one of {len(passes)} payloads of version {settled.version} went to all who stayed"
        yield Violation(Invariant.SAME_BYTES, text)


def reach(case: Case) -> Iterator[Violation]:
    """Every key in use was sent to everybody who, by the log, was a member after the event that made it."""
    settled = {
        (room_id, one.version): one
        for room_id, _, one in case.settles()
        if not case.missed(one.staged_ms, one.at_ms)
    }
    for room_id, steps in case.timeline.of_rooms().items():
        before = case.recording.before.get(room_id)
        members = set(before.members) if before else set[str]()
        for step in steps:
            members |= step.told.added
            members -= step.told.removed
            one = settled.get((room_id, -1 if step.version is None else step.version))
            if step.rotated and one is not None:
                lacking = members - case.sent.get((room_id, one.version), {}).keys()
                staying = [who for who in lacking if case.is_recipient(who) and _stayed(case, room_id, who, one)]
                if staying:
                    text = f"{room_id}: version {one.version}, made by event {step.sequence}, was never sent to"
                    yield Violation(Invariant.REACH, f"{text} {_some(staying)}")


def _stayed(case: Case, room_id: str, account: str, settled: Settled) -> bool:
    """Tell whether no event that had been applied when the key became current had ended the membership."""
    made = case.timeline.made[room_id]
    since = made[settled.version]
    applied = since if settled.high is None else made.get(settled.high, since)
    return case.timeline.was_member_throughout(room_id, account, since, applied)


def reach_in_the_end(case: Case) -> Iterator[Violation]:
    """In the end every member has been sent the room's current key."""
    recording = case.recording
    settled = {(room_id, one.version): one for room_id, _, one in case.settles()}
    for room_id, room in recording.rooms.items():
        if room.kind != "channel":
            continue
        one = settled.get((room_id, -1 if room.version is None else room.version))
        if room.version is None and case.timeline.has_key(room_id):
            yield Violation(Invariant.REACH, f"{room_id} has no key in the end")
        elif one is not None and room.version is not None and not case.missed(one.staged_ms):
            lacking = _not_sent(case, room_id, room.version, recording.members.get(room_id, {}), NEVER)
            if lacking:
                text = f"{room_id}: the last version {room.version} was never sent to {_some(lacking)}"
                yield Violation(Invariant.REACH, text)


def exclusion(case: Case) -> Iterator[Violation]:
    """Nobody is sent a key that was made with or after their removal, unless they came back."""
    for (room_id, version), accounts in case.sent.items():
        made = case.timeline.made.get(room_id, {}).get(version)
        if made is None and room_id:
            yield Violation(Invariant.ORDER, f"{room_id}: version {version} was sent, which no event made")
        wrong = [
            who for who in accounts if made is not None and not case.timeline.was_member_since(room_id, who, made)
        ]
        if wrong:
            text = f"{room_id}: version {version}, made by event {made}, was sent to {_some(wrong)}"
            yield Violation(Invariant.EXCLUSION, f"{text}, who had left")


def exclusion_on_result(case: Case) -> Iterator[Violation]:
    """When a removal is said to be done, a key that it made, or a later one, is in use."""
    uses = _first_uses(case)
    for step in case.timeline.steps:
        results = case.told_by(step, Kind.RESULT) if step.rotated else []
        if results and step.room is not None and step.version is not None:
            versions, times = uses.get(step.room, ([], []))
            at = bisect_left(versions, step.version)
            since_ms = times[at] if at < len(times) else NEVER
            if case.recording.times[results[0].arrival] + CLOCK_MS < since_ms:
                text = f"{step.room}: event {step.sequence} was said to be done before version {step.version}"
                yield Violation(Invariant.EXCLUSION, f"{text}, which it made, was in use")


def _first_uses(case: Case) -> dict[str, tuple[list[int], list[int]]]:
    """Return for each room its versions, rising, and when each of them or a later one was first in use."""
    uses: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for change in case.recording.changes:
        if change.what is What.IN_USE and change.version is not None:
            uses[change.room].setdefault(change.version, change.at_ms)
    found = {}
    for room_id, of_room in uses.items():
        versions = sorted(of_room)
        times = list(accumulate((of_room[version] for version in reversed(versions)), min))
        found[room_id] = (versions, times[::-1])
    return found


def _not_sent(case: Case, room_id: str, version: int, accounts: Iterable[str], heard: int) -> list[str]:
    first = case.sent.get((room_id, version), {})
    return [one for one in accounts if first.get(one, NEVER) >= heard and case.is_recipient(one)]


def _some(accounts: Iterable[str]) -> str:
    everyone = sorted(accounts)
    more = f" and {len(everyone) - _SHOWN} more" if len(everyone) > _SHOWN else ""
    return ", ".join(everyone[:_SHOWN]) + more
