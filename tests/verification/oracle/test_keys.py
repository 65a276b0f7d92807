"""The judge on recordings made by hand: who was sent which key, and when it came into use."""

from collections.abc import Callable

import pytest

from tests.verification.oracle.example_recordings import (
    ADD,
    REMOVE,
    ROTATE,
    Run,
    added,
    created,
    key,
    rejected,
    removed,
    right,
)
from tests.verification.oracle.judge import judge
from tests.verification.oracle.recording import What
from tests.verification.oracle.sealed import digest
from tests.verification.oracle.verdict import Invariant


def broken(run: Run) -> set[Invariant]:
    return {violation.invariant for violation in judge(run.recording)}


def test_a_run_that_is_right_is_found_right() -> None:
    assert judge(right().recording) == []


def a_survivor_is_never_sent_the_key() -> Run:
    run = Run()
    created(run)
    request_id = run.event("member.remove", REMOVE)
    run.apply("r1", 1, left="bob")
    run.update(request_id, "removed", "bob")
    run.tell_room(request_id, "r1", "member_removed", "bob")
    run.send("r1", 1, "alice")
    run.settle("r1", 1)
    run.answer(request_id, "room.member.remove", "r1")
    run.end("r1", 1, alice="owner", carol="member")
    return run


def a_newcomer_is_never_sent_the_key_in_use() -> Run:
    run = Run()
    created(run)
    request_id = run.event("member.add", ADD)
    run.apply("r1", None, joined="dave")
    run.update(request_id, "added", "dave")
    run.tell_room(request_id, "r1", "member_added", "dave")
    run.answer(request_id, "room.member.add", "r1")
    rotated(run, 1, "alice", "bob", "carol", "dave")
    run.end("r1", 1, alice="owner", bob="member", carol="member", dave="member")
    return run


def somebody_new_lacks_the_last_key() -> Run:
    run = Run()
    created(run)
    request_id = run.event("member.add", ADD)
    run.apply("r1", None, joined="dave")
    run.update(request_id, "added", "dave")
    run.tell_room(request_id, "r1", "member_added", "dave")
    run.answer(request_id, "room.member.add", "r1")
    run.end("r1", 0, alice="owner", bob="member", carol="member", dave="member")
    return run


def rotated(run: Run, version: int, *accounts: str) -> None:
    request_id = run.event("key.rotate", ROTATE)
    run.apply("r1", version)
    run.send("r1", version, *accounts)
    run.settle("r1", version)
    run.answer(request_id, "room.key.rotate", "r1")


def somebody_who_left_is_sent_the_key() -> Run:
    run = right()
    run.send("r1", 1, "bob")
    return run


def a_removal_is_answered_before_its_key_is_in_use() -> Run:
    run = Run()
    created(run)
    request_id = run.event("member.remove", REMOVE)
    run.apply("r1", 1, left="bob")
    run.update(request_id, "removed", "bob")
    run.tell_room(request_id, "r1", "member_removed", "bob")
    run.send("r1", 1, "alice", "carol")
    run.answer(request_id, "room.member.remove", "r1")
    run.clock += 1_000
    run.settle("r1", 1)
    run.end("r1", 1, alice="owner", carol="member")
    return run


def a_key_is_in_use_before_it_is_sent() -> Run:
    run = Run()
    created(run)
    request_id = run.event("key.rotate", ROTATE)
    run.apply("r1", 1)
    run.send("r1", 1, "alice", "bob")
    run.settle("r1", 1)
    run.send("r1", 1, "carol")
    run.answer(request_id, "room.key.rotate", "r1")
    run.end("r1", 1, alice="owner", bob="member", carol="member")
    return run


def a_new_room_has_a_key_at_once() -> Run:
    run = Run()
    body = {"roomId": "r1", "name": "r1", "users": ["bob"], "requesterAccount": "alice"}
    request_id = run.event("create", body)
    run.commit(*((What.IN_USE, "r1", 0), (What.JOINED, "r1", "alice"), (What.JOINED, "r1", "bob")))
    run.update(request_id, "added", "alice", "bob")
    run.send("r1", 0, "alice", "bob")
    run.answer(request_id, "room.create", "r1")
    run.end("r1", 0, alice="owner", bob="member")
    return run


def a_version_has_two_keys_in_payloads() -> Run:
    run = right()
    run.send("r1", 1, "alice", secret=b"x" * 32, timestamp=9)
    return run


def a_version_has_another_key_in_the_database() -> Run:
    run = right()
    run.recording.stored.add(("r1", 1, digest(b"x" * 32)))
    return run


def two_versions_have_one_key() -> Run:
    run = right()
    run.recording.stored.add(("r1", 7, digest(key("r1", 1))))
    return run


def a_version_comes_back() -> Run:
    run = right()
    run.settle("r1", 0)
    return run


def the_highest_version_falls() -> Run:
    run = right()
    run.commit((What.HIGH, "r1", 0))
    return run


def a_version_was_made_by_no_event() -> Run:
    run = right()
    run.send("r1", 5, "alice")
    return run


def every_recipient_has_a_payload_of_its_own() -> Run:
    run = Run()
    created(run)
    request_id = run.event("key.rotate", ROTATE)
    run.apply("r1", 1)
    for stamp, account in enumerate(("alice", "bob", "carol")):
        run.send("r1", 1, account, timestamp=stamp)
    run.settle("r1", 1)
    run.answer(request_id, "room.key.rotate", "r1")
    run.end("r1", 1, alice="owner", bob="member", carol="member")
    return run


def a_payload_has_a_field_too_many() -> Run:
    run = right()
    run.send("r1", 1, "alice", extra=1)
    return run


@pytest.mark.parametrize(
    ("bend", "invariant"),
    [
        (a_survivor_is_never_sent_the_key, Invariant.REACH),
        (a_survivor_is_never_sent_the_key, Invariant.HOLD),
        (a_newcomer_is_never_sent_the_key_in_use, Invariant.REACH),
        (somebody_new_lacks_the_last_key, Invariant.REACH),
        (somebody_who_left_is_sent_the_key, Invariant.EXCLUSION),
        (a_removal_is_answered_before_its_key_is_in_use, Invariant.EXCLUSION),
        (a_key_is_in_use_before_it_is_sent, Invariant.HOLD),
        (a_new_room_has_a_key_at_once, Invariant.HOLD),
        (a_version_has_two_keys_in_payloads, Invariant.ONE_KEY),
        (a_version_has_another_key_in_the_database, Invariant.ONE_KEY),
        (two_versions_have_one_key, Invariant.ONE_KEY),
        (a_version_comes_back, Invariant.RISE),
        (the_highest_version_falls, Invariant.RISE),
        (a_version_was_made_by_no_event, Invariant.ORDER),
        (every_recipient_has_a_payload_of_its_own, Invariant.SAME_BYTES),
        (a_payload_has_a_field_too_many, Invariant.SAME_BYTES),
    ],
)
def test_what_is_wrong_is_found(bend: Callable[[], Run], invariant: Invariant) -> None:
    assert invariant in broken(bend())


def test_somebody_who_came_back_may_have_the_keys_since() -> None:
    run = Run()
    created(run)
    removed(run)
    rotated(run, 2, "alice", "carol")
    request_id = run.event("member.add", {**ADD, "users": ["bob"]})
    run.apply("r1", None, joined="bob")
    run.update(request_id, "added", "bob")
    run.tell_room(request_id, "r1", "member_added", "bob")
    run.send("r1", 2, "bob", timestamp=6)
    run.answer(request_id, "room.member.add", "r1")
    run.end("r1", 2, alice="owner", bob="member", carol="member")
    assert judge(run.recording) == []
    run.send("r1", 1, "bob", timestamp=7)  # made by the event that removed bob, who is a member again
    assert judge(run.recording) == []


def test_what_was_sent_again_after_a_crash_may_have_another_timestamp() -> None:
    run = Run()
    created(run)
    request_id = run.event("key.rotate", ROTATE)
    run.apply("r1", 1)
    run.send("r1", 1, "alice", timestamp=5)
    run.send("r1", 1, "alice", "bob", "carol", timestamp=6)
    run.settle("r1", 1)
    run.answer(request_id, "room.key.rotate", "r1")
    run.end("r1", 1, alice="owner", bob="member", carol="member")
    assert judge(run.recording) == []


def test_two_rotations_of_one_batch_bring_one_key() -> None:
    run = Run()
    created(run)
    requests = [run.event("key.rotate", ROTATE) for _ in range(2)]
    run.apply("r1", 2)
    run.send("r1", 2, "alice", "bob", "carol")
    run.settle("r1", 2)
    for request_id in requests:
        run.answer(request_id, "room.key.rotate", "r1")
    run.end("r1", 2, alice="owner", bob="member", carol="member")
    assert judge(run.recording) == []


def test_who_left_while_a_key_was_on_its_way_need_not_be_sent_it() -> None:
    run = Run()
    created(run)
    first = run.event("key.rotate", ROTATE)
    run.apply("r1", 1)
    run.send("r1", 1, "alice", "carol")
    second = run.event("member.remove", REMOVE)
    run.commit((What.HIGH, "r1", 2), (What.LEFT, "r1", "bob"))
    run.update(second, "removed", "bob")
    run.tell_room(second, "r1", "member_removed", "bob")
    run.commit((What.IN_USE, "r1", 1), (What.STAGED, "r1", 2))
    run.answer(first, "room.key.rotate", "r1")
    run.send("r1", 2, "alice", "carol")
    run.settle("r1", 2)
    run.answer(second, "room.member.remove", "r1")
    run.end("r1", 2, alice="owner", carol="member")
    assert judge(run.recording) == []


@pytest.mark.parametrize(
    "bend", [a_survivor_is_never_sent_the_key, a_key_is_in_use_before_it_is_sent, somebody_new_lacks_the_last_key]
)
def test_what_may_have_gone_out_in_a_gap_is_not_missed(bend: Callable[[], Run]) -> None:
    run = bend()
    last = run.recording.events[-1].at_ms
    run.gap(last + 1, last + 2)
    assert judge(run.recording) == []


def test_a_gap_excuses_nothing_that_came_after_it() -> None:
    run = Run()
    created(run)
    run.gap(run.clock + 1_000, run.clock + 2_000)
    run.clock += 5_000
    request_id = run.event("key.rotate", ROTATE)
    run.apply("r1", 1)
    run.send("r1", 1, "alice", "bob")
    run.settle("r1", 1)
    run.answer(request_id, "room.key.rotate", "r1")
    run.end("r1", 1, alice="owner", bob="member", carol="member")
    assert broken(run) == {Invariant.REACH, Invariant.HOLD}


def test_bots_and_accounts_that_are_no_tokens_need_no_key() -> None:
    run = Run()
    run.recording.people |= {"a b": frozenset({"eng"})}
    request_id = run.event(
        "create", {"roomId": "r1", "name": "r1", "orgs": ["eng"], "users": ["bob"], "requesterAccount": "alice"}
    )
    run.apply("r1", 0)
    run.commit(*((What.JOINED, "r1", account) for account in ("alice", "bob", "a b", "helper.bot")))
    run.update(request_id, "added", "alice", "bob")
    run.send("r1", 0, "alice", "bob")
    run.settle("r1", 0)
    run.answer(request_id, "room.create", "r1")
    run.end("r1", 0, **{"alice": "owner", "bob": "member", "a b": "member"})
    run.recording.orgs["r1"], run.recording.individuals["r1"] = ["eng"], ["alice", "bob"]
    assert judge(run.recording) == []


def test_whom_the_broker_denies_need_no_key() -> None:
    run = Run()
    request_id = run.event("create", {"roomId": "r1", "name": "r1", "users": ["bob"], "requesterAccount": "alice"})
    run.apply("r1", 0, joined="alice bob")
    run.update(request_id, "added", "alice", "bob")
    run.send("r1", 0, "alice")
    run.settle("r1", 0)
    run.answer(request_id, "room.create", "r1")
    run.end("r1", 0, alice="owner", bob="member")
    assert Invariant.REACH in broken(run)
    run.recording.denied = frozenset({"bob"})
    assert judge(run.recording) == []


def test_failures_name_no_key() -> None:
    run = a_version_has_two_keys_in_payloads()
    search = run.recording.secrets.search()
    assert len(run.recording.secrets) == 3
    for violation in judge(run.recording):
        assert not search.found_in(repr(violation).encode())
    assert not search.found_in(repr(run.recording).encode())


def test_the_example_of_something_refused_and_somebody_new_is_used() -> None:
    run = Run()
    created(run)
    rejected(run)
    added(run, 0)
    assert judge(run.recording) == []


def test_who_left_while_a_key_was_on_its_way_and_came_back_later_need_not_have_been_sent_it() -> None:
    run = Run()
    created(run)
    first = run.event("key.rotate", ROTATE)
    run.apply("r1", 1)
    run.send("r1", 1, "alice", "carol")
    second = run.event("member.remove", REMOVE)
    run.commit((What.HIGH, "r1", 2), (What.LEFT, "r1", "bob"))
    run.update(second, "removed", "bob")
    run.tell_room(second, "r1", "member_removed", "bob")
    run.commit((What.IN_USE, "r1", 1), (What.STAGED, "r1", 2))
    run.answer(first, "room.key.rotate", "r1")
    run.send("r1", 2, "alice", "carol")
    run.settle("r1", 2)
    run.answer(second, "room.member.remove", "r1")
    third = run.event("member.add", {**ADD, "users": ["bob"]})
    run.apply("r1", None, joined="bob")
    run.update(third, "added", "bob")
    run.tell_room(third, "r1", "member_added", "bob")
    run.send("r1", 2, "bob", timestamp=6)
    run.answer(third, "room.member.add", "r1")
    run.end("r1", 2, alice="owner", bob="member", carol="member")
    assert judge(run.recording) == []
