"""The rate limit: a burst, then a steady rate, each account for itself, in a bounded memory."""

from hypothesis import given
from hypothesis import strategies as st

from worker.key_service.rate_limit import AccountLimit, RateLimit, Verdict

RATE, BURST = 20.0, 100


def allowed(limit: RateLimit, account: bytes, now: float, times: int) -> int:
    return sum(limit.allows(account, now) for _ in range(times))


def test_a_burst_of_a_hundred_is_allowed_and_no_more() -> None:
    assert allowed(RateLimit(RATE, BURST), b"alice", 1_000_000.25, 1_000) == 100


def test_after_a_burst_twenty_a_second_are_allowed() -> None:
    limit = RateLimit(RATE, BURST)
    allowed(limit, b"alice", 50.0, 1_000)
    assert [allowed(limit, b"alice", 50.0 + second, 1_000) for second in (1, 2, 3, 3.5)] == [20, 20, 20, 10]


def test_one_accounts_burst_is_not_anothers() -> None:
    limit = RateLimit(RATE, BURST)
    allowed(limit, b"alice", 7.0, 1_000)
    assert limit.allows(b"bob", 7.0)
    assert not limit.allows(b"alice", 7.0)


def test_what_was_refused_costs_nothing() -> None:
    limit = RateLimit(RATE, BURST)
    for tick in range(5 * 20):
        allowed(limit, b"alice", tick / 20, 1_000)
    assert allowed(limit, b"alice", 10.0, 1_000) == 100


def test_who_has_paid_everything_off_is_forgotten() -> None:
    limit = RateLimit(RATE, BURST)
    for number in range(1_000):
        limit.allows(b"user-%d" % number, number / 100)
    assert len(limit) <= 6, "each has paid its one request off after a twentieth of a second"


def test_a_flood_of_accounts_does_not_grow_the_memory() -> None:
    limit = RateLimit(RATE, BURST, max_accounts=1_000)
    for number in range(10_000):
        assert limit.allows(b"user-%d" % number, 5.0)
    assert len(limit) <= 1_000


@given(st.lists(st.floats(0, 60), min_size=1, max_size=400))
def test_no_span_of_time_sees_more_than_a_burst_and_the_rate(moments: list[float]) -> None:
    limit = RateLimit(RATE, BURST)
    taken = [moment for moment in sorted(moments) if limit.allows(b"alice", moment)]
    for at, first in enumerate(taken):
        for count, last in enumerate(taken[at:], 1):
            assert count <= BURST + (last - first) * RATE + 1


def test_few_of_the_requests_beyond_the_limit_are_refused_and_the_others_dropped() -> None:
    limit = AccountLimit(RateLimit(RATE, BURST), RateLimit(1.0, 5))
    flood = [limit.judge(b"alice", 7.0 + number / 1_000) for number in range(10_000)]
    assert flood[:BURST] == [Verdict.ACCEPT] * BURST
    assert [flood.count(verdict) for verdict in (Verdict.ACCEPT, Verdict.REFUSE)] == [BURST + 200, 5 + 10]
    assert limit.judge(b"bob", 17.0) is Verdict.ACCEPT
    assert limit.judge(b"alice", 27.0) is Verdict.ACCEPT
