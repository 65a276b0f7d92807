"""Whether a replica is able to work: when it takes partitions again, and how long it waits before that."""

from worker.replica.readiness.ability import Ability

LEASE_S = 5.0
SILENCE = "no heartbeat from JetStream"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def seconds_until_able(ability: Ability, clock: Clock) -> float:
    """Let the problem appear for a moment; return how long the replica then stays unable."""
    ability.update(SILENCE)
    assert ability.unable == SILENCE
    since = clock.now
    while ability.unable is not None:
        clock.now += 0.5
        ability.update(None)
    return clock.now - since


def test_replica_without_a_problem_is_able() -> None:
    ability = Ability(LEASE_S, Clock())
    ability.update(None)
    assert ability.unable is None


def test_replica_is_unable_for_as_long_as_its_problem_lasts() -> None:
    clock = Clock()
    ability = Ability(LEASE_S, clock)
    for _ in range(1_000):
        ability.update(SILENCE)
        clock.now += 0.5
    assert ability.unable == SILENCE
    ability.update("not connected to NATS")
    assert ability.unable == "not connected to NATS"


def test_pause_after_each_problem_is_twice_as_long_up_to_a_limit() -> None:
    clock = Clock()
    ability = Ability(LEASE_S, clock)
    pauses = [seconds_until_able(ability, clock) for _ in range(9)]
    assert pauses == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 320.0, 320.0]


def test_pause_is_short_again_after_a_long_time_without_a_problem() -> None:
    clock = Clock()
    ability = Ability(LEASE_S, clock)
    assert [seconds_until_able(ability, clock) for _ in range(3)] == [5.0, 10.0, 20.0]
    clock.now += 1_000.0
    assert seconds_until_able(ability, clock) == 5.0
