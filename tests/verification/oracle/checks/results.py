"""Invariant 6, order, once: every event has one result, and it comes last."""

from collections.abc import Iterator

import orjson

from tests.verification.oracle.analysis import Analysis
from tests.verification.oracle.recording import Message, MessageKind
from tests.verification.oracle.timeline import TimelineEntry


def results_match_the_events(analysis: Analysis) -> Iterator[str]:
    """Every event that can have a result has it, as the events demand; all copies have the same bytes."""
    if MessageKind.RESULT not in analysis.recording.kinds:
        return
    for entry in analysis.timeline.by_request.values():
        results = analysis.messages_of(entry, MessageKind.RESULT)
        name = f"event {entry.sequence} in {entry.room}"
        if not results and entry.has_result and not analysis.has_gap_during(entry):
            yield f"{name} has no result"
        if results and not entry.has_result:
            yield f"{name} has a result although no requester can receive it"
        if len({result.body for result in results}) > 1:
            yield f"{name} has results that differ"
        for result in results[:1]:
            found, expected = _content(result), _expected(entry)
            if found != expected:
                yield f"{name} has the result {found} instead of {expected}"


def _content(result: Message) -> tuple[object, ...]:
    body = orjson.loads(result.body)
    error = None if body["status"] == "ok" else (body.get("code"), body.get("reason"))
    return result.to, body["requestId"], body["operation"], body.get("roomId"), error


def _expected(entry: TimelineEntry) -> tuple[object, ...]:
    parsed = entry.parsed
    return parsed.requester, entry.event.request_id, parsed.operation, entry.room, entry.outcome.error


def result_is_the_last_message(analysis: Analysis) -> Iterator[str]:
    """Each listener receives the result of an event after everything else that the event causes."""
    listeners = analysis.recording.listeners
    for entry in analysis.timeline.by_request.values():
        results = analysis.messages_of(entry, MessageKind.RESULT)
        notices = [
            *analysis.messages_of(entry, MessageKind.ACCOUNT_NOTICE),
            *analysis.messages_of(entry, MessageKind.ROOM_NOTICE),
        ]
        for listener in {listeners[result.arrival] for result in results}:
            result = min(result.arrival for result in results if listeners[result.arrival] == listener)
            firsts: dict[tuple[MessageKind, str, bytes], int] = {}
            for notice in notices:
                if listeners[notice.arrival] == listener:
                    firsts.setdefault((notice.kind, notice.to, notice.body), notice.arrival)
            late = [f"{kind} to {to}" for (kind, to, _), arrival in firsts.items() if arrival > result]
            if late and not analysis.listener_has_gap(listener, entry.event.at_ms, result):
                yield f"event {entry.sequence} in {entry.room}: its result came before its {late[0]}"


def first_key_comes_before_the_result(analysis: Analysis) -> Iterator[str]:
    """Each account that joins a room for the first time, and stays, gets its first key before the result."""
    for entry, account, first_key in analysis.first_keys():
        memberships = analysis.timeline.memberships[entry.room or "", account]
        results = analysis.messages_of(entry, MessageKind.RESULT)
        if results and memberships[0][1] is None and results[0].arrival < first_key:
            text = f"{entry.room}: the result of event {entry.sequence} came before the first key of {account}"
            yield f"{text}, who joined"
