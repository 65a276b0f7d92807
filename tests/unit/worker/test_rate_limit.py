"""The rate limit: a burst, then a steady rate, each account for itself, in a bounded memory."""

from hypothesis import given
from hypothesis import strategies as st

from worker.key_service.rate_limit import BURST, RATE, RateLimit


def allowed(limit: RateLimit, account: str, now: float, times: int) -> int:
    return sum(limit.allows(account, now) for _ in range(times))


def test_a_burst_of_a_hundred_is_allowed_and_no_more() -> None:
    assert allowed(RateLimit(), "alice", 1_000_000.25, 1_000) == 100


def test_after_a_burst_twenty_a_second_are_allowed() -> None:
    limit = RateLimit()
    allowed(limit, "alice", 50.0, 1_000)
    assert [allowed(limit, "alice", 50.0 + second, 1_000) for second in (1, 2, 3, 3.5)] == [20, 20, 20, 10]


def test_one_accounts_burst_is_not_anothers() -> None:
    limit = RateLimit()
    allowed(limit, "alice", 7.0, 1_000)
    assert limit.allows("bob", 7.0)
    assert not limit.allows("alice", 7.0)


def test_what_was_refused_costs_nothing() -> None:
    limit = RateLimit()
    for tick in range(5 * 20):
        allowed(limit, "alice", tick / 20, 1_000)
    assert allowed(limit, "alice", 10.0, 1_000) == 100


def test_who_has_paid_everything_off_is_forgotten() -> None:
    limit = RateLimit()
    for number in range(1_000):
        limit.allows(f"user-{number}", number / 100)
    assert len(limit) <= 6, "each has paid its one request off after a twentieth of a second"


def test_a_flood_of_accounts_does_not_grow_the_memory() -> None:
    limit = RateLimit(max_accounts=1_000)
    for number in range(10_000):
        assert limit.allows(f"user-{number}", 5.0)
    assert len(limit) <= 1_000


@given(st.lists(st.floats(0, 60), min_size=1, max_size=400))
def test_no_span_of_time_sees_more_than_a_burst_and_the_rate(moments: list[float]) -> None:
    limit = RateLimit()
    taken = [moment for moment in sorted(moments) if limit.allows("alice", moment)]
    for at, first in enumerate(taken):
        for count, last in enumerate(taken[at:], 1):
            assert count <= BURST + (last - first) * RATE + 1
