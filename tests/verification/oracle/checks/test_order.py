"""The checks of order, on recordings written by hand."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from roomkeys import subjects
from tests.verification.oracle.example_recordings import ADD, REMOVE, Run, correct_run, create, failed_checks
from tests.verification.oracle.judge import find_violations
from tests.verification.oracle.recording import MessageKind, RoomDocument


def removed_account_without_notice() -> Run:
    run = correct_run()
    messages = run.recording.messages
    run.recording.messages = [one for one in messages if (one.kind, one.to) != (MessageKind.ACCOUNT_NOTICE, "bob")]
    return run


def no_room_notice() -> Run:
    run = correct_run()
    messages = run.recording.messages
    run.recording.messages = [one for one in messages if one.kind is not MessageKind.ROOM_NOTICE]
    return run


def batch_of_two(run: Run) -> tuple[str, str]:
    """Apply a removal of bob and an add of dave in one batch; return their request ids."""
    create(run)
    removal, addition = run.publish("member.remove", REMOVE), run.publish("member.add", ADD)
    run.apply("r1", 1, left="bob", joined="dave")
    return removal, addition


def finish_batch_of_two(run: Run, removal: str, addition: str) -> Run:
    run.send_key("r1", 0, "dave", timestamp=6)
    run.send_key("r1", 1, "alice", "carol", "dave")
    run.settle("r1", 1)
    run.respond(removal, "room.member.remove", "r1")
    run.respond(addition, "room.member.add", "r1")
    run.end("r1", 1, alice="owner", carol="member", dave="member")
    return run


def room_notices_in_reverse_order() -> Run:
    run = Run()
    removal, addition = batch_of_two(run)
    run.notify(removal, "removed", "bob")
    run.notify(addition, "added", "dave")
    run.notify_room(addition, "r1", "member_added", "dave")
    run.notify_room(removal, "r1", "member_removed", "bob")
    return finish_batch_of_two(run, removal, addition)


def missing_member(run: Run) -> None:
    del run.recording.members["r1"]["carol"]


def lost_role(run: Run) -> None:
    run.recording.members["r1"]["alice"] = "member"


def wrong_count(run: Run) -> None:
    run.recording.rooms["r1"] = replace(run.recording.rooms["r1"], users=4)


def extra_individual(run: Run) -> None:
    run.recording.individuals["r1"] = ["alice"]


def extra_org(run: Run) -> None:
    run.recording.orgs["r1"] = ["eng"]


def extra_rotation(run: Run) -> None:
    run.end("r1", 2, alice="owner", carol="member", dave="member")


def staged_key(run: Run) -> None:
    run.recording.rooms["r1"] = replace(run.recording.rooms["r1"], staged=1)


def outbox_entry(run: Run) -> None:
    run.recording.outbox = 1


def unknown_room(run: Run) -> None:
    run.recording.rooms["r7"] = RoomDocument("channel", 0, 0, 0, 0, None)


@pytest.mark.parametrize(
    "change",
    [
        missing_member,
        lost_role,
        wrong_count,
        extra_individual,
        extra_org,
        extra_rotation,
        staged_key,
        outbox_entry,
        unknown_room,
    ],
)
def test_finds_database_that_differs_from_the_events(change: Callable[[Run], None]) -> None:
    run = correct_run()
    change(run)
    assert "database_matches_the_events" in failed_checks(run)


def test_finds_version_that_no_event_made() -> None:
    run = correct_run()
    run.send_key("r1", 5, "alice")
    assert "every_version_has_an_event" in failed_checks(run)


def test_finds_second_notice_with_other_bytes() -> None:
    run = correct_run()
    run.notify(str(run.recording.events[1].request_id), "removed", "bob", timestamp=77)
    assert "repeated_messages_are_identical" in failed_checks(run)


def test_finds_second_room_notice_with_other_bytes() -> None:
    run = correct_run()
    run.receive(
        subjects.room_member_event("r1"),
        {"type": "member_removed", "accounts": ["bob"], "timestamp": 77},
        run.recording.events[1].request_id,
    )
    assert "repeated_messages_are_identical" in failed_checks(run)


def test_finds_result_of_a_request_that_was_not_made() -> None:
    run = correct_run()
    run.respond("00000000-0000-0000-0000-0000000000ff", "room.create", "r1")
    assert failed_checks(run) == {"repeated_messages_are_identical"}


def test_finds_room_notices_in_reverse_order() -> None:
    assert failed_checks(room_notices_in_reverse_order()) == {"messages_are_in_stream_order"}


def test_finds_results_in_reverse_order() -> None:
    run = correct_run()
    results = [one for one in run.recording.messages if one.kind is MessageKind.RESULT]
    arrivals = {results[0].request_id: results[1].arrival, results[1].request_id: results[0].arrival}
    messages = [
        replace(one, arrival=arrivals[one.request_id]) if one in results[:2] else one for one in run.recording.messages
    ]
    run.recording.messages = sorted(messages, key=lambda one: one.arrival)
    assert "messages_are_in_stream_order" in failed_checks(run)


def test_finds_removed_account_without_notice() -> None:
    assert "notices_match_the_events" in failed_checks(removed_account_without_notice())


def test_finds_missing_room_notice() -> None:
    assert failed_checks(no_room_notice()) == {"notices_match_the_events"}


def test_finds_notice_to_another_account() -> None:
    run = correct_run()
    run.notify(str(run.recording.events[1].request_id), "removed", "carol")
    assert "notices_match_the_events" in failed_checks(run)


def test_finds_first_key_before_the_notice() -> None:
    run = Run()
    create(run)
    request_id = run.publish("member.add", ADD)
    run.apply("r1", None, joined="dave")
    run.send_key("r1", 0, "dave", timestamp=6)
    run.notify(request_id, "added", "dave")
    run.notify_room(request_id, "r1", "member_added", "dave")
    run.respond(request_id, "room.member.add", "r1")
    run.end("r1", 0, alice="owner", bob="member", carol="member", dave="member")
    assert failed_checks(run) == {"notice_comes_before_the_first_key"}


def test_accepts_two_events_of_one_batch_in_order() -> None:
    run = Run()
    removal, addition = batch_of_two(run)
    run.notify(removal, "removed", "bob")
    run.notify_room(removal, "r1", "member_removed", "bob")
    run.notify(addition, "added", "dave")
    run.notify_room(addition, "r1", "member_added", "dave")
    assert find_violations(finish_batch_of_two(run, removal, addition).recording) == []


def test_accepts_messages_that_are_sent_again() -> None:
    run = correct_run()
    for message in list(run.recording.messages):
        arrival = run.recording.arrive(0, run.clock)
        run.recording.messages.append(replace(message, arrival=arrival))
    assert find_violations(run.recording) == []


def test_accepts_request_that_was_published_twice_but_judges_its_keys() -> None:
    run = correct_run()
    request_id = run.publish("key.rotate", {"roomId": "r1", "requester": "alice"})
    first = run.recording.events[0]
    run.recording.events[-1] = replace(run.recording.events[-1], request_id=first.request_id)
    version = int(run.recording.rooms["r1"].version or 0) + 1
    members = {account: str(role) for account, role in run.recording.members["r1"].items()}
    run.apply("r1", version)
    run.send_key("r1", version, *members)
    run.settle("r1", version)
    run.respond(str(first.request_id), "room.key.rotate", "r1")
    run.end("r1", version, **members)
    assert find_violations(run.recording) == []
    run.respond(request_id, "room.key.rotate", "r1")
    assert failed_checks(run) == {"repeated_messages_are_identical"}
