"""Backoff: pauses double up to a limit, spread by a random factor."""

import pytest

from roomkeys.backoff import FULL_JITTER, NO_JITTER, Backoff

DOUBLED = [0.5, 1.0, 2.0, 3.0, 3.0]


def test_pause_doubles_up_to_the_longest() -> None:
    backoff = Backoff(0.5, 3.0, spread=NO_JITTER)
    assert [backoff.pause(attempt) for attempt in range(1, 6)] == DOUBLED


def test_pause_after_very_many_attempts_is_the_longest() -> None:
    assert Backoff(0.5, 3.0, spread=NO_JITTER).pause(100_000) == 3.0


def test_next_grows_and_reset_begins_again() -> None:
    backoff = Backoff(0.5, 3.0, spread=NO_JITTER)
    assert [backoff.next() for _ in DOUBLED] == DOUBLED
    assert backoff.attempts == len(DOUBLED)
    backoff.reset()
    assert (backoff.attempts, backoff.next()) == (0, 0.5)


def test_pause_of_an_attempt_does_not_count_as_one() -> None:
    backoff = Backoff(0.5, 3.0, spread=NO_JITTER)
    assert [backoff.pause(attempt) for attempt in range(1, 6)] == DOUBLED
    assert backoff.next() == 0.5


@pytest.mark.parametrize("spread", [FULL_JITTER, (0.5, 1.0), (0.5, 1.5)])
def test_pauses_are_spread_over_the_whole_range(spread: tuple[float, float]) -> None:
    backoff = Backoff(1.0, 8.0, spread=spread)
    pauses = [backoff.pause(1) for _ in range(1000)]
    low, high = spread
    width = high - low
    assert low <= min(pauses) < low + width / 10
    assert high - width / 10 < max(pauses) <= high


def test_a_spread_of_one_value_gives_equal_pauses_to_equal_attempts() -> None:
    backoff = Backoff(1.0, 8.0, spread=(0.7, 0.7))
    assert {backoff.pause(2) for _ in range(10)} == {1.4}
