"""How large the next batch may be, and when an event is given up."""

import pytest

from worker.limits import Limits
from worker.pipeline import batch_sizer
from worker.pipeline.batch_sizer import BatchSizer

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


def test_a_failure_lets_events_go_one_at_a_time() -> None:
    tried = BatchSizer(256, LIMITS)
    tried.on_failure(alone=False)
    assert tried.events == 1
    assert not tried.should_dead_letter


def test_an_event_is_given_up_only_after_it_has_failed_alone_for_a_while(clock: Clock) -> None:
    tried = BatchSizer(256, LIMITS)
    for _ in range(50):
        tried.on_failure(alone=True)
    assert not tried.should_dead_letter, "an election takes seconds"
    clock.now += LIMITS.dead_letter_s
    assert tried.should_dead_letter
    tried.on_success()
    assert not tried.should_dead_letter, "the next event starts at zero failures"


def test_failures_in_company_do_not_count_against_the_first_event(clock: Clock) -> None:
    tried = BatchSizer(256, LIMITS)
    tried.on_failure(alone=False)
    clock.now += 2 * LIMITS.dead_letter_s
    tried.on_failure(alone=True)
    assert not tried.should_dead_letter


def test_pauses_grow_and_are_bounded() -> None:
    tried = BatchSizer(256, LIMITS)
    pauses = [tried.on_failure(alone=True) for _ in range(20)]
    assert pauses == sorted(pauses)
    assert pauses[0] < pauses[-1] <= 2
