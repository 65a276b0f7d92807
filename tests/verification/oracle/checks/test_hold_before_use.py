"""The check of hold before use, on recordings written by hand."""

from tests.verification.oracle.checks.test_reach import survivor_never_sent_the_key
from tests.verification.oracle.example_recordings import ROTATE, Run, create, failed_checks
from tests.verification.oracle.recording import ChangeKind


def key_in_use_before_it_is_sent() -> Run:
    run = Run()
    create(run)
    request_id = run.publish("key.rotate", ROTATE)
    run.apply("r1", 1)
    run.send_key("r1", 1, "alice", "bob")
    run.settle("r1", 1)
    run.send_key("r1", 1, "carol")
    run.respond(request_id, "room.key.rotate", "r1")
    run.end("r1", 1, alice="owner", bob="member", carol="member")
    return run


def test_finds_key_in_use_before_it_is_sent() -> None:
    assert failed_checks(key_in_use_before_it_is_sent()) == {"members_have_the_key_before_use"}


def test_finds_key_in_use_that_is_never_sent_to_a_survivor() -> None:
    assert "members_have_the_key_before_use" in failed_checks(survivor_never_sent_the_key())


def test_finds_new_room_with_a_key_from_the_start() -> None:
    run = Run()
    body = {"roomId": "r1", "name": "r1", "users": ["bob"], "requesterAccount": "alice"}
    request_id = run.publish("create", body)
    run.commit((ChangeKind.CURRENT, "r1", 0), (ChangeKind.JOINED, "r1", "alice"), (ChangeKind.JOINED, "r1", "bob"))
    run.notify(request_id, "added", "alice", "bob")
    run.send_key("r1", 0, "alice", "bob")
    run.respond(request_id, "room.create", "r1")
    run.end("r1", 0, alice="owner", bob="member")
    assert "members_have_the_key_before_use" in failed_checks(run)
