"""The judge on recordings made by hand: order, results, dead letters, and keys where none may be."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from roomkeys import subjects
from tests.verification.oracle.example_recordings import (
    ADD,
    REMOVE,
    ROTATE,
    Run,
    added,
    created,
    key,
    removed,
    right,
)
from tests.verification.oracle.judge import judge
from tests.verification.oracle.key_leaks import side_door_of_files
from tests.verification.oracle.recording import Kind, RoomDocument
from tests.verification.oracle.sealed import spellings
from tests.verification.oracle.verdict import Invariant


def broken(run: Run) -> set[Invariant]:
    return {violation.invariant for violation in judge(run.recording)}


def a_member_is_missing_in_the_end() -> Run:
    run = right()
    del run.recording.members["r1"]["carol"]
    return run


def an_owner_lost_the_role() -> Run:
    run = right()
    run.recording.members["r1"]["alice"] = "member"
    return run


def people_are_counted_wrong() -> Run:
    run = right()
    run.recording.rooms["r1"] = replace(run.recording.rooms["r1"], users=4)
    return run


def a_row_is_left_over() -> Run:
    run = right()
    run.recording.individuals["r1"] = ["alice"]
    return run


def an_org_is_left_over() -> Run:
    run = right()
    run.recording.orgs["r1"] = ["eng"]
    return run


def a_removal_rotated_twice() -> Run:
    run = right()
    run.end("r1", 2, alice="owner", carol="member", dave="member")
    return run


def a_key_never_settled() -> Run:
    run = right()
    run.recording.rooms["r1"] = replace(run.recording.rooms["r1"], staged=1)
    return run


def something_is_still_owed() -> Run:
    run = right()
    run.recording.outbox = 1
    return run


def a_room_is_there_that_no_event_made() -> Run:
    run = right()
    run.recording.rooms["r7"] = RoomDocument("channel", 0, 0, 0, 0, None)
    return run


def an_event_was_decided_twice() -> Run:
    run = right()
    request_id = str(run.recording.events[1].request_id)
    run.update(request_id, "removed", "bob", timestamp=77)
    return run


def a_room_was_told_two_things_of_one_event() -> Run:
    run = right()
    run.hear(
        subjects.room_member_event("r1"),
        {"type": "member_removed", "accounts": ["bob"], "timestamp": 77},
        run.recording.events[1].request_id,
    )
    return run


def a_request_that_nobody_made_is_answered() -> Run:
    run = right()
    run.answer("00000000-0000-0000-0000-0000000000ff", "room.create", "r1")
    return run


def two_events(run: Run) -> list[str]:
    created(run)
    removal, addition = run.event("member.remove", REMOVE), run.event("member.add", ADD)
    run.apply("r1", 1, left="bob", joined="dave")
    return [removal, addition]


def finished(run: Run, removal: str, addition: str) -> Run:
    run.send("r1", 0, "dave", timestamp=6)
    run.send("r1", 1, "alice", "carol", "dave")
    run.settle("r1", 1)
    run.answer(removal, "room.member.remove", "r1")
    run.answer(addition, "room.member.add", "r1")
    run.end("r1", 1, alice="owner", carol="member", dave="member")
    return run


def a_room_is_told_of_the_later_event_first() -> Run:
    run = Run()
    removal, addition = two_events(run)
    run.update(removal, "removed", "bob")
    run.update(addition, "added", "dave")
    run.tell_room(addition, "r1", "member_added", "dave")
    run.tell_room(removal, "r1", "member_removed", "bob")
    return finished(run, removal, addition)


def results_come_in_another_order() -> Run:
    run = right()
    results = [one for one in run.recording.heard if one.kind is Kind.RESULT]
    arrivals = {results[0].request_id: results[1].arrival, results[1].request_id: results[0].arrival}
    heard = [
        replace(one, arrival=arrivals[one.request_id]) if one in results[:2] else one
        for one in run.recording.heard
    ]
    run.recording.heard = sorted(heard, key=lambda one: one.arrival)
    return run


def nobody_is_told_that_they_left() -> Run:
    run = right()
    run.recording.heard = [one for one in run.recording.heard if (one.kind, one.to) != (Kind.UPDATE, "bob")]
    return run


def the_room_is_not_told() -> Run:
    run = right()
    run.recording.heard = [one for one in run.recording.heard if one.kind is not Kind.ROOM]
    return run


def somebody_is_told_who_was_not_meant() -> Run:
    run = right()
    run.update(str(run.recording.events[1].request_id), "removed", "carol")
    return run


def a_joiner_is_sent_a_key_before_the_notice() -> Run:
    run = Run()
    created(run)
    request_id = run.event("member.add", ADD)
    run.apply("r1", None, joined="dave")
    run.send("r1", 0, "dave", timestamp=6)
    run.update(request_id, "added", "dave")
    run.tell_room(request_id, "r1", "member_added", "dave")
    run.answer(request_id, "room.member.add", "r1")
    run.end("r1", 0, alice="owner", bob="member", carol="member", dave="member")
    return run


def a_result_is_missing() -> Run:
    run = right()
    run.recording.heard = [one for one in run.recording.heard if one.kind is not Kind.RESULT]
    return run


def a_result_says_ok_that_is_an_error() -> Run:
    run = right()
    gone = run.recording.heard.pop()
    run.answer(str(gone.request_id), "room.key.rotate", "r9")
    return run


def a_result_has_another_reason() -> Run:
    run = right()
    gone = run.recording.heard.pop()
    run.answer(str(gone.request_id), "room.key.rotate", "r9", "not_found", "user_not_found")
    return run


def two_results_differ() -> Run:
    run = right()
    request_id = str(run.recording.events[0].request_id)
    run.answer(request_id, "room.create", "r1", timestamp=77)
    return run


def a_result_comes_before_its_notices() -> Run:
    run = Run()
    created(run)
    request_id = run.event("member.add", ADD)
    run.apply("r1", None, joined="dave")
    run.answer(request_id, "room.member.add", "r1")
    run.update(request_id, "added", "dave")
    run.tell_room(request_id, "r1", "member_added", "dave")
    run.send("r1", 0, "dave", timestamp=6)
    run.end("r1", 0, alice="owner", bob="member", carol="member", dave="member")
    return run


def a_joiner_is_sent_the_key_after_the_result() -> Run:
    run = Run()
    created(run)
    request_id = run.event("member.add", ADD)
    run.apply("r1", None, joined="dave")
    run.update(request_id, "added", "dave")
    run.tell_room(request_id, "r1", "member_added", "dave")
    run.answer(request_id, "room.member.add", "r1")
    run.send("r1", 0, "dave", timestamp=6)
    run.end("r1", 0, alice="owner", bob="member", carol="member", dave="member")
    return run


def a_dead_letter_is_missing() -> Run:
    run = right()
    run.recording.letters.clear()
    return run


def a_dead_letter_comes_twice() -> Run:
    run = right()
    run.recording.letters *= 2
    return run


def an_event_that_succeeded_has_a_dead_letter() -> Run:
    run = right()
    run.letter(2, "not_found", "user_not_found")
    return run


def a_dead_letter_says_something_else() -> Run:
    run = right()
    run.recording.letters.clear()
    run.letter(4, "not_found", "user_not_found")
    return run


def a_dead_letter_has_another_body() -> Run:
    run = right()
    run.recording.letters[0] = replace(run.recording.letters[0], body=b"{}")
    return run


def a_notice_holds_a_key() -> Run:
    run = right()
    run.hear("chat.room.r1.event.other", {"text": key("r1", 1).hex()})
    return run


def a_dead_letter_holds_a_key() -> Run:
    run = right()
    run.letter(4, "not_found", "room_not_found", Extra="x" + key("r1", 1).hex())
    return run


ORDER = [
    a_member_is_missing_in_the_end,
    an_owner_lost_the_role,
    people_are_counted_wrong,
    a_row_is_left_over,
    an_org_is_left_over,
    a_removal_rotated_twice,
    a_key_never_settled,
    something_is_still_owed,
    a_room_is_there_that_no_event_made,
    an_event_was_decided_twice,
    a_room_was_told_two_things_of_one_event,
    a_request_that_nobody_made_is_answered,
    a_room_is_told_of_the_later_event_first,
    results_come_in_another_order,
    nobody_is_told_that_they_left,
    the_room_is_not_told,
    somebody_is_told_who_was_not_meant,
    a_joiner_is_sent_a_key_before_the_notice,
]
RESULTS = [
    a_result_is_missing,
    a_result_says_ok_that_is_an_error,
    a_result_has_another_reason,
    two_results_differ,
    a_result_comes_before_its_notices,
    a_joiner_is_sent_the_key_after_the_result,
]
LETTERS = [
    a_dead_letter_is_missing,
    a_dead_letter_comes_twice,
    an_event_that_succeeded_has_a_dead_letter,
    a_dead_letter_says_something_else,
    a_dead_letter_has_another_body,
]
SIDE_DOOR = [a_notice_holds_a_key, a_dead_letter_holds_a_key]
EXPECTED = {
    Invariant.ORDER: ORDER,
    Invariant.RESULTS: RESULTS,
    Invariant.LETTERS: LETTERS,
    Invariant.SIDE_DOOR: SIDE_DOOR,
}


@pytest.mark.parametrize(
    ("bend", "invariant"), [(bend, invariant) for invariant, bends in EXPECTED.items() for bend in bends]
)
def test_what_is_wrong_is_found(bend: Callable[[], Run], invariant: Invariant) -> None:
    assert invariant in broken(bend())


def test_two_events_of_one_batch_in_their_order_are_right() -> None:
    run = Run()
    removal, addition = two_events(run)
    run.update(removal, "removed", "bob")
    run.tell_room(removal, "r1", "member_removed", "bob")
    run.update(addition, "added", "dave")
    run.tell_room(addition, "r1", "member_added", "dave")
    assert judge(finished(run, removal, addition).recording) == []


def test_what_is_sent_again_after_a_crash_is_right() -> None:
    run = right()
    first = list(run.recording.heard)
    for one in first:
        run.recording.heard.append(replace(one, arrival=run.recording.arrive(0, run.clock)))
    assert judge(run.recording) == []


@pytest.mark.parametrize(
    "bend",
    [
        a_result_is_missing,
        nobody_is_told_that_they_left,
        the_room_is_not_told,
        a_room_is_told_of_the_later_event_first,
    ],
)
def test_what_may_have_gone_out_in_a_gap_is_not_missed(bend: Callable[[], Run]) -> None:
    run = bend()
    for event in run.recording.events:
        run.gap(event.at_ms + 1, event.at_ms + 2)
    assert judge(run.recording) == []


def test_a_gap_after_a_later_result_of_the_room_excuses_no_earlier_one() -> None:
    run = right()
    run.recording.heard = [
        one for one in run.recording.heard if one.request_id != run.recording.events[1].request_id
    ]
    run.gap(run.clock + 1_000, run.clock + 2_000)
    assert broken(run) == {Invariant.ORDER, Invariant.RESULTS}


def test_what_was_not_recorded_is_not_missed() -> None:
    run = right()
    run.recording.kinds = frozenset({Kind.KEY})
    run.recording.heard.clear()
    assert judge(run.recording) == []


@pytest.mark.parametrize("at", range(9))
@pytest.mark.parametrize("spelling", spellings(key("r1", 1)))
def test_a_key_is_found_in_every_spelling_wherever_it_stands(spelling: bytes, at: int, tmp_path: Path) -> None:
    run = right()
    log = tmp_path / "worker.log"
    log.write_bytes(b"first line\n" + b"." * at + spelling + b" and more\n")
    assert [item.invariant for item in side_door_of_files(run.recording, [log])] == [Invariant.SIDE_DOOR]
    log.write_bytes(b"first line\n" + spelling[1:-1] + b" and more\n")
    assert side_door_of_files(run.recording, [log]) == []


def test_the_examples_go_on_from_one_another() -> None:
    run = Run()
    created(run)
    removed(run)
    assert judge(run.recording) == []
    added(run, 1)
    request_id = run.event("key.rotate", ROTATE)
    run.apply("r1", 2)
    run.send("r1", 2, "alice", "carol", "dave")
    run.settle("r1", 2)
    run.answer(request_id, "room.key.rotate", "r1")
    run.end("r1", 2, alice="owner", carol="member", dave="member")
    assert judge(run.recording) == []


def test_a_request_that_was_published_twice_is_not_judged_by_its_answers_and_its_keys_are() -> None:
    run = right()
    request_id = run.event("key.rotate", ROTATE)
    first = run.recording.events[0]
    run.recording.events[-1] = replace(run.recording.events[-1], request_id=first.request_id)
    version = int(run.recording.rooms["r1"].version or 0) + 1
    members = {account: str(role) for account, role in run.recording.members["r1"].items()}
    run.apply("r1", version)
    run.send("r1", version, *members)
    run.settle("r1", version)
    run.answer(str(first.request_id), "room.key.rotate", "r1")
    run.end("r1", version, **members)
    assert judge(run.recording) == []
    run.answer(request_id, "room.key.rotate", "r1")
    assert broken(run) == {Invariant.ORDER}, "an answer to nobody is still found"
