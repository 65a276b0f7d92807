"""How large the next batch may be, and when an event is set aside."""

import pytest

from worker.limits import Limits
from worker.pipeline.failures import batch_sizer
from worker.pipeline.failures.batch_sizer import BatchSizer

LIMITS = Limits()


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(batch_sizer, "time", clock)
    return clock


def test_three_conflicts_halve_the_batch_and_a_success_doubles_it() -> None:
    tried = BatchSizer(256, LIMITS)
    for _ in range(3):
        tried.on_conflict()
    assert tried.events == 128
    tried.on_success()
    assert tried.events == 256
    tried.on_success()
    assert tried.events == 256


def test_failure_lets_events_go_one_at_a_time() -> None:
    tried = BatchSizer(256, LIMITS)
    assert tried.on_failure(alone=False) == 0, "its events are tried at once"
    assert tried.events == 1
    assert not tried.should_set_aside


def test_event_that_fails_alone_twice_is_to_be_set_aside() -> None:
    tried = BatchSizer(256, LIMITS)
    tried.on_failure(alone=False)
    tried.on_failure(alone=True)
    assert not tried.should_set_aside, "failures in company do not count"
    tried.on_failure(alone=True)
    assert tried.should_set_aside
    tried.on_success()
    assert not tried.should_set_aside, "the next event starts at zero failures"


def test_event_that_meets_conflicts_alone_for_a_second_is_to_be_set_aside(clock: Clock) -> None:
    tried = BatchSizer(2, LIMITS)
    tried.on_conflict()
    clock.now += LIMITS.conflict_s
    tried.on_conflict()
    assert tried.events == 1
    assert not tried.should_set_aside, "the other event may be the one that conflicts"
    tried.on_conflict()
    clock.now += LIMITS.conflict_s
    tried.on_conflict()
    assert tried.should_set_aside
    tried.on_success()
    assert not tried.should_set_aside


def test_event_whose_commit_is_in_doubt_twice_is_a_suspect_once() -> None:
    tried = BatchSizer(256, LIMITS)
    tried.on_doubt(alone=False)
    tried.on_doubt(alone=True)
    assert not tried.pop_suspicion()
    tried.on_doubt(alone=True)
    assert tried.pop_suspicion()
    assert not tried.pop_suspicion(), "it is tried again before it is suspected again"


def test_pauses_grow_and_are_bounded() -> None:
    tried = BatchSizer(256, LIMITS)
    pauses = [tried.on_failure(alone=True) for _ in range(20)]
    assert pauses == sorted(pauses)
    assert pauses[0] < pauses[-1] <= 2
