"""Gaps: what a listener may have missed is no violation, and everything else still is."""

from collections.abc import Callable

import pytest

from tests.verification.oracle.checks.test_hold_before_use import key_in_use_before_it_is_sent
from tests.verification.oracle.checks.test_order import (
    no_room_notice,
    removed_account_without_notice,
    room_notices_in_reverse_order,
)
from tests.verification.oracle.checks.test_reach import joiner_never_sent_the_key, survivor_never_sent_the_key
from tests.verification.oracle.checks.test_results import no_results
from tests.verification.oracle.example_recordings import Run, correct_run, create, failed_checks, rotate
from tests.verification.oracle.judge import find_violations
from tests.verification.oracle.recording import MessageKind


@pytest.mark.parametrize(
    "wrong_run", [survivor_never_sent_the_key, key_in_use_before_it_is_sent, joiner_never_sent_the_key]
)
def test_accepts_missing_key_in_a_gap(wrong_run: Callable[[], Run]) -> None:
    run = wrong_run()
    last = run.recording.events[-1].at_ms
    run.gap(last + 1, last + 2)
    assert find_violations(run.recording) == []


@pytest.mark.parametrize(
    "wrong_run", [no_results, removed_account_without_notice, no_room_notice, room_notices_in_reverse_order]
)
def test_accepts_missing_message_in_a_gap(wrong_run: Callable[[], Run]) -> None:
    run = wrong_run()
    for event in run.recording.events:
        run.gap(event.at_ms + 1, event.at_ms + 2)
    assert find_violations(run.recording) == []


def test_finds_missing_key_after_a_gap() -> None:
    run = Run()
    create(run)
    run.gap(run.clock + 1_000, run.clock + 2_000)
    run.clock += 5_000
    rotate(run, 1, "alice", "bob")
    run.end("r1", 1, alice="owner", bob="member", carol="member")
    assert failed_checks(run) == {
        "every_rotation_reaches_the_members",
        "last_version_reaches_the_members",
        "members_have_the_key_before_use",
    }


def test_finds_missing_messages_before_a_gap_that_follows_a_later_result() -> None:
    run = correct_run()
    removal = run.recording.events[1].request_id
    run.recording.messages = [one for one in run.recording.messages if one.request_id != removal]
    run.gap(run.clock + 1_000, run.clock + 2_000)
    assert failed_checks(run) == {"notices_match_the_events", "results_match_the_events"}


def test_accepts_messages_of_kinds_that_were_not_recorded() -> None:
    run = correct_run()
    run.recording.kinds = frozenset({MessageKind.KEY})
    run.recording.messages.clear()
    assert find_violations(run.recording) == []
