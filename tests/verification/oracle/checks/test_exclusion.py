"""The checks of exclusion, on recordings written by hand."""

from tests.verification.oracle.example_recordings import (
    ADD,
    REMOVE,
    Run,
    correct_run,
    create,
    failed_checks,
    remove_bob,
    rotate,
)
from tests.verification.oracle.judge import find_violations


def test_finds_key_sent_to_removed_account() -> None:
    run = correct_run()
    run.send_key("r1", 1, "bob")
    assert failed_checks(run) == {"no_later_key_after_a_removal"}


def test_finds_result_of_removal_before_its_key_is_in_use() -> None:
    run = Run()
    create(run)
    request_id = run.publish("member.remove", REMOVE)
    run.apply("r1", 1, left="bob")
    run.notify(request_id, "removed", "bob")
    run.notify_room(request_id, "r1", "member_removed", "bob")
    run.send_key("r1", 1, "alice", "carol")
    run.respond(request_id, "room.member.remove", "r1")
    run.clock += 1_000
    run.settle("r1", 1)
    run.end("r1", 1, alice="owner", carol="member")
    assert failed_checks(run) == {"new_key_is_in_use_before_the_result"}


def test_accepts_keys_sent_to_account_that_came_back() -> None:
    run = Run()
    create(run)
    remove_bob(run)
    rotate(run, 2, "alice", "carol")
    request_id = run.publish("member.add", {**ADD, "users": ["bob"]})
    run.apply("r1", None, joined="bob")
    run.notify(request_id, "added", "bob")
    run.notify_room(request_id, "r1", "member_added", "bob")
    run.send_key("r1", 2, "bob", timestamp=6)
    run.respond(request_id, "room.member.add", "r1")
    run.end("r1", 2, alice="owner", bob="member", carol="member")
    assert find_violations(run.recording) == []
    run.send_key("r1", 1, "bob", timestamp=7)  # version 1 excluded bob, who is a member again
    assert find_violations(run.recording) == []
