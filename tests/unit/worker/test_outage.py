"""The log lines of an outage."""

from collections.abc import Callable
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from worker.telemetry.outage import Outage


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outage(clock: Clock) -> Outage:
    return Outage("NATS", structlog.get_logger(), clock)


def lines(act: Callable[[], None]) -> list[dict[str, Any]]:
    with capture_logs() as logs:
        act()
    return [{name: value for name, value in line.items() if name != "log_level"} for line in logs]


def fail_for(outage: Outage, clock: Clock, seconds: int, cause: str = "connection refused") -> None:
    """Fail once a second."""
    for _ in range(seconds):
        outage.failed(cause)
        clock.now += 1


def test_outage_of_70_seconds_has_a_line_at_its_begin_every_30_s_and_at_its_end(outage: Outage, clock: Clock) -> None:
    def act() -> None:
        fail_for(outage, clock, 70)
        outage.ended()
        outage.ended()

    assert lines(act) == [
        {"event": "NATS unavailable", "cause": "connection refused"},
        {"event": "NATS unavailable", "cause": "connection refused", "seconds": 30.0},
        {"event": "NATS unavailable", "cause": "connection refused", "seconds": 60.0},
        {"event": "NATS available again", "seconds": 70.0},
    ]


def test_another_cause_has_a_line_at_once_but_only_once(outage: Outage, clock: Clock) -> None:
    def act() -> None:
        for _ in range(10):
            outage.failed("connection refused", room="r1")
            outage.failed("timed out")
            clock.now += 1

    assert [(line["cause"], line.get("seconds")) for line in lines(act)] == [
        ("connection refused", None),
        ("timed out", 0.0),
    ]


def test_causes_that_are_always_different_have_a_bounded_number_of_lines(outage: Outage, clock: Clock) -> None:
    def act() -> None:
        for number in range(60):
            outage.failed(f"attempt {number}")
            clock.now += 1

    assert len(lines(act)) == 9, "eight causes, and a reminder"


def test_outage_says_since_when_and_why(outage: Outage, clock: Clock) -> None:
    assert (outage.cause, outage.seconds) == (None, 0.0)
    fail_for(outage, clock, 4)
    assert (outage.cause, outage.seconds) == ("connection refused", 4.0)
    outage.ended()
    fail_for(outage, clock, 2, "timed out")
    assert (outage.cause, outage.seconds) == ("timed out", 2.0)


def test_each_outage_has_lines_again(outage: Outage, clock: Clock) -> None:
    def act() -> None:
        for _ in range(2):
            fail_for(outage, clock, 3)
            outage.ended()

    assert [line["event"] for line in lines(act)] == 2 * ["NATS unavailable", "NATS available again"]
