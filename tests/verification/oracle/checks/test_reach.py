"""The checks of reach, on recordings written by hand."""

from tests.verification.oracle.example_recordings import ADD, REMOVE, Run, create, failed_checks, rotate
from tests.verification.oracle.judge import find_violations
from tests.verification.oracle.recording import ChangeKind


def survivor_never_sent_the_key() -> Run:
    run = Run()
    create(run)
    request_id = run.publish("member.remove", REMOVE)
    run.apply("r1", 1, left="bob")
    run.notify(request_id, "removed", "bob")
    run.notify_room(request_id, "r1", "member_removed", "bob")
    run.send_key("r1", 1, "alice")
    run.settle("r1", 1)
    run.respond(request_id, "room.member.remove", "r1")
    run.end("r1", 1, alice="owner", carol="member")
    return run


def joiner_never_sent_the_key() -> Run:
    run = Run()
    create(run)
    request_id = run.publish("member.add", ADD)
    run.apply("r1", None, joined="dave")
    run.notify(request_id, "added", "dave")
    run.notify_room(request_id, "r1", "member_added", "dave")
    run.respond(request_id, "room.member.add", "r1")
    run.end("r1", 0, alice="owner", bob="member", carol="member", dave="member")
    return run


def leave_during_rotation() -> Run:
    """Bob leaves while version 1 is staged, and is not sent it."""
    run = Run()
    create(run)
    first = run.publish("key.rotate", {"roomId": "r1", "requester": "alice"})
    run.apply("r1", 1)
    run.send_key("r1", 1, "alice", "carol")
    second = run.publish("member.remove", REMOVE)
    run.commit((ChangeKind.HIGH, "r1", 2), (ChangeKind.LEFT, "r1", "bob"))
    run.notify(second, "removed", "bob")
    run.notify_room(second, "r1", "member_removed", "bob")
    run.commit((ChangeKind.CURRENT, "r1", 1), (ChangeKind.STAGED, "r1", 2))
    run.respond(first, "room.key.rotate", "r1")
    run.send_key("r1", 2, "alice", "carol")
    run.settle("r1", 2)
    run.respond(second, "room.member.remove", "r1")
    run.end("r1", 2, alice="owner", carol="member")
    return run


def test_finds_survivor_never_sent_the_key() -> None:
    failed = failed_checks(survivor_never_sent_the_key())
    assert {"every_rotation_reaches_the_members", "last_version_reaches_the_members"} <= failed


def test_finds_joiner_never_sent_the_last_key() -> None:
    assert "last_version_reaches_the_members" in failed_checks(joiner_never_sent_the_key())


def test_finds_joiner_never_sent_the_key_that_was_current() -> None:
    run = joiner_never_sent_the_key()
    rotate(run, 1, "alice", "bob", "carol", "dave")
    run.end("r1", 1, alice="owner", bob="member", carol="member", dave="member")
    assert failed_checks(run) == {"joiners_are_sent_the_current_key", "first_key_comes_before_the_result"}


def test_accepts_account_that_left_during_rotation() -> None:
    assert find_violations(leave_during_rotation().recording) == []


def test_accepts_account_that_left_during_rotation_and_came_back_later() -> None:
    run = leave_during_rotation()
    request_id = run.publish("member.add", {**ADD, "users": ["bob"]})
    run.apply("r1", None, joined="bob")
    run.notify(request_id, "added", "bob")
    run.notify_room(request_id, "r1", "member_added", "bob")
    run.send_key("r1", 2, "bob", timestamp=6)
    run.respond(request_id, "room.member.add", "r1")
    run.end("r1", 2, alice="owner", bob="member", carol="member")
    assert find_violations(run.recording) == []


def test_accepts_bots_and_invalid_accounts_without_key() -> None:
    run = Run()
    run.recording.users |= {"a b": frozenset({"eng"})}
    request_id = run.publish(
        "create", {"roomId": "r1", "name": "r1", "orgs": ["eng"], "users": ["bob"], "requesterAccount": "alice"}
    )
    run.apply("r1", 0)
    run.commit(*((ChangeKind.JOINED, "r1", account) for account in ("alice", "bob", "a b", "helper.bot")))
    run.notify(request_id, "added", "alice", "bob")
    run.send_key("r1", 0, "alice", "bob")
    run.settle("r1", 0)
    run.respond(request_id, "room.create", "r1")
    run.end("r1", 0, **{"alice": "owner", "bob": "member", "a b": "member"})
    run.recording.orgs["r1"], run.recording.individuals["r1"] = ["eng"], ["alice", "bob"]
    assert find_violations(run.recording) == []


def test_accepts_account_without_key_only_if_the_broker_denies_it() -> None:
    run = Run()
    body = {"roomId": "r1", "name": "r1", "users": ["bob"], "requesterAccount": "alice"}
    request_id = run.publish("create", body)
    run.apply("r1", 0, joined="alice bob")
    run.notify(request_id, "added", "alice", "bob")
    run.send_key("r1", 0, "alice")
    run.settle("r1", 0)
    run.respond(request_id, "room.create", "r1")
    run.end("r1", 0, alice="owner", bob="member")
    assert "last_version_reaches_the_members" in failed_checks(run)
    run.recording.denied = frozenset({"bob"})
    assert find_violations(run.recording) == []
