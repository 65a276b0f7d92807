"""The example recordings are correct, alone and one after the other."""

from tests.verification.oracle.example_recordings import (
    Run,
    add_dave,
    correct_run,
    create,
    reject_rotation,
    remove_bob,
    rotate,
)
from tests.verification.oracle.judge import find_violations


def test_correct_run_has_no_violation() -> None:
    assert find_violations(correct_run().recording) == []


def test_examples_follow_one_another() -> None:
    run = Run()
    create(run)
    remove_bob(run)
    assert find_violations(run.recording) == []
    add_dave(run, 1)
    rotate(run, 2, "alice", "carol", "dave")
    run.end("r1", 2, alice="owner", carol="member", dave="member")
    assert find_violations(run.recording) == []


def test_examples_are_independent_of_their_order() -> None:
    run = Run()
    create(run)
    reject_rotation(run)
    add_dave(run, 0)
    assert find_violations(run.recording) == []
