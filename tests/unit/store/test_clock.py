"""The clock of the database, from the replies of its servers to the driver's monitors."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo.hello import Hello
from pymongo.monitoring import ServerHeartbeatSucceededEvent

from store.clock import ServerClock

HOUR_MS = 3_600_000
ONE, TWO = ("one", 27017), ("two", 27017)


def here_ms() -> int:
    return time.time_ns() // 1_000_000


def reply(ahead_ms: int, server: tuple[str, int] = ONE, **changes: Any) -> ServerHeartbeatSucceededEvent:
    """Return what a primary answers whose clock is ahead of this machine's."""
    moment = datetime.fromtimestamp((here_ms() + ahead_ms) / 1000, UTC).replace(tzinfo=None)
    hello = {"ok": 1, "isWritablePrimary": True, "setName": "rs0", "hosts": ["one:27017"], "localTime": moment}
    return ServerHeartbeatSucceededEvent(0.001, Hello({**hello, **changes}), server, True)


def ahead_ms(clock: ServerClock) -> int:
    return round((clock.now_ms() - here_ms()) / 1000) * 1000


def test_clock_is_the_machines_until_the_first_reply() -> None:
    assert ahead_ms(ServerClock()) == 0


@pytest.mark.parametrize("hours", [-24, 1])
def test_clock_is_that_of_the_primary(hours: int) -> None:
    clock = ServerClock()
    clock.succeeded(reply(hours * HOUR_MS))
    assert ahead_ms(clock) == hours * HOUR_MS


def test_clock_of_a_secondary_does_not_count() -> None:
    clock = ServerClock()
    clock.succeeded(reply(HOUR_MS))
    clock.succeeded(reply(0, TWO, isWritablePrimary=False, secondary=True))
    assert ahead_ms(clock) == HOUR_MS


def test_another_primary_brings_its_clock_at_once() -> None:
    clock = ServerClock()
    clock.succeeded(reply(HOUR_MS))
    clock.succeeded(reply(-HOUR_MS, TWO))
    assert ahead_ms(clock) == -HOUR_MS


def test_late_reply_does_not_set_the_clock_back() -> None:
    """The process was stopped for an hour while the reply waited in its socket."""
    clock = ServerClock()
    clock.succeeded(reply(0))
    clock.succeeded(reply(-HOUR_MS))
    assert ahead_ms(clock) == 0


def test_clock_that_was_set_back_is_believed_after_three_replies() -> None:
    clock = ServerClock()
    clock.succeeded(reply(0))
    for _ in range(3):
        clock.succeeded(reply(-HOUR_MS))
    assert ahead_ms(clock) == -HOUR_MS


@pytest.mark.parametrize("odd", [None, 5, "now"])
def test_reply_without_a_time_is_ignored(odd: object) -> None:
    clock = ServerClock()
    clock.succeeded(reply(HOUR_MS))
    clock.succeeded(reply(0, localTime=odd))
    assert ahead_ms(clock) == HOUR_MS


def test_wall_clock_of_this_machine_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ServerClock()
    clock.succeeded(reply(0))
    before, now_ns = here_ms(), time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + HOUR_MS * 1_000_000)
    assert abs(clock.now_ms() - before) < 60_000
