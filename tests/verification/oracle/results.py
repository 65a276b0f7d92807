"""Results and dead letters: one answer for each event, last; a dead letter for each that can never succeed."""

from collections import Counter
from collections.abc import Iterator

import orjson

from roomkeys import subjects
from tests.verification.oracle.recording import NEVER, Heard, Kind, Letter
from tests.verification.oracle.timeline import Step
from tests.verification.oracle.verdict import Case, Invariant, Violation

_TRUNCATED = "Room-Worker-Truncated"


def results(case: Case) -> Iterator[Violation]:
    """Every event that can be answered is, with what the log says; all copies are the same bytes."""
    if Kind.RESULT not in case.recording.kinds:
        return
    for step in case.timeline.by_request.values():
        answers = case.told_by(step, Kind.RESULT)
        name = f"event {step.sequence} in {step.room}"
        if not answers and step.answered and not case.unheard(step):
            yield Violation(Invariant.RESULTS, f"{name} has no result")
        if answers and not step.answered:
            yield Violation(Invariant.RESULTS, f"{name} has a result that nobody can receive")
        if len({answer.body for answer in answers}) > 1:
            yield Violation(Invariant.RESULTS, f"{name} has results that differ")
        for answer in answers[:1]:
            said, right = _said(answer), _right(step)
            if said != right:
                yield Violation(Invariant.RESULTS, f"{name} came to {said}, by the log to {right}")


def _said(answer: Heard) -> tuple[object, ...]:
    body = orjson.loads(answer.body)
    error = None if body["status"] == "ok" else (body.get("code"), body.get("reason"))
    return answer.to, body["requestId"], body["operation"], body.get("roomId"), error


def _right(step: Step) -> tuple[object, ...]:
    return step.asked.requester, step.event.request_id, step.asked.operation, step.room, step.told.error


def last(case: Case) -> Iterator[Violation]:
    """Results come after everything else that their events cause."""
    ears = case.recording.ears
    for step in case.timeline.by_request.values():
        answers = case.told_by(step, Kind.RESULT)
        others = [*case.told_by(step, Kind.UPDATE), *case.told_by(step, Kind.ROOM)]
        for ear in {ears[answer.arrival] for answer in answers}:
            first = min(answer.arrival for answer in answers if ears[answer.arrival] == ear)
            firsts: dict[tuple[Kind, str, bytes], int] = {}
            for other in others:
                if ears[other.arrival] == ear:
                    firsts.setdefault((other.kind, other.to, other.body), other.arrival)
            late = [f"{kind} to {to}" for (kind, to, _), arrival in firsts.items() if arrival > first]
            if late and not case.missed_by(ear, step.event.at_ms, first):
                text = f"event {step.sequence} in {step.room}: its result came before {late[0]}"
                yield Violation(Invariant.RESULTS, text)


def joiners(case: Case) -> Iterator[Violation]:
    """Who joins for the first time has its notice before its first key, and its key before the event's result."""
    if len(set(case.recording.ears)) > 1:
        return  # what one ear heard first says nothing of another
    first_keys = _first_keys(case)
    for step in case.timeline.by_request.values():
        room = step.room or ""
        updates = {heard.to: heard.arrival for heard in reversed(case.told_by(step, Kind.UPDATE))}
        results = case.told_by(step, Kind.RESULT)
        for account in step.told.added:
            stays = case.timeline.stays.get((room, account), [])
            first = first_keys.get((room, account))
            if first is None or not stays or stays[0][0] != step.sequence or case.unheard(step):
                continue
            if Kind.UPDATE in case.recording.kinds and first < updates.get(account, NEVER):
                yield Violation(
                    Invariant.ORDER, f"{room}: {account} was sent a key before it was told that it joined"
                )
            if results and stays[0][1] is None and results[0].arrival < first:
                text = f"{room}: event {step.sequence} was answered before {account}, who joined, was sent a key"
                yield Violation(Invariant.RESULTS, text)


def _first_keys(case: Case) -> dict[tuple[str, str], int]:
    first: dict[tuple[str, str], int] = {}
    for (room, _), accounts in case.sent.items():
        for account, arrival in accounts.items():
            first[room, account] = min(arrival, first.get((room, account), NEVER))
    return first


def letters(case: Case) -> Iterator[Violation]:
    """Each event that can never succeed has one dead letter, with its body and its reason; no other has one."""
    site, steps = case.recording.site, {step.sequence: step for step in case.timeline.steps}
    counts: Counter[int] = Counter()
    for letter in case.recording.letters:
        sequence = int(letter.headers.get("Room-Worker-Sequence", "0"))
        if sequence <= case.recording.since:
            continue
        counts[sequence] += 1
        step = steps.get(sequence)
        if step is None or step.told.error is None:
            yield Violation(Invariant.LETTERS, f"event {sequence} has a dead letter and could succeed")
        elif wrong := _wrong(letter, step, site):
            yield Violation(
                Invariant.LETTERS, f"the dead letter of event {sequence} is wrong in {', '.join(wrong)}"
            )
    for sequence, step in steps.items():
        if step.told.error is not None and counts[sequence] != 1:
            yield Violation(Invariant.LETTERS, f"event {sequence} has {counts[sequence]} dead letters")


def _wrong(letter: Letter, step: Step, site: str) -> list[str]:
    code, reason = step.told.error or ("", "")
    right = {
        "Nats-Msg-Id": f"{subjects.events_stream(site)}:{step.sequence}",
        "Room-Worker-Code": code,
        "Room-Worker-Reason": reason,
        "Room-Worker-Subject": step.event.subject,
        "Room-Worker-Sequence": str(step.sequence),
    }
    wrong = [name for name, value in right.items() if letter.headers.get(name) != value]
    body = step.event.body
    whole = letter.body == body or (letter.headers.get(_TRUNCATED) == "true" and body.startswith(letter.body))
    return wrong if whole else [*wrong, "its body"]
