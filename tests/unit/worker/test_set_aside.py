"""The rooms that are set aside: which events wait, in which order, and when they are tried again."""

import pytest
from structlog.testing import capture_logs

from roomkeys.events.decode import decode, parse
from roomkeys.events.event import AnyEvent, StreamMessage
from store.leases.lease import Lease
from worker.limits import Limits
from worker.pipeline.failures import set_aside
from worker.pipeline.failures.set_aside import SetAside, WaitingEvent

LEASE = Lease("s", 0, "me", 3, None)
LIMITS = Limits(set_aside_events=3, set_aside_bytes=1_000, set_aside_pause_s=1.0)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(set_aside, "time", clock)
    return clock


@pytest.fixture
def tried(clock: Clock) -> SetAside:
    assert clock.now
    return SetAside(LEASE, LIMITS)


def event(sequence: int, room: str, size: int = 50) -> AnyEvent:
    body = b'{"roomId":"%s","requester":"alice"}' % room.encode()
    message = StreamMessage(sequence, sequence, "chat.room.canonical.s.key.rotate", body.ljust(size))
    found = decode(message, parse(message.body))
    assert found is not None
    return found


def due(tried: SetAside) -> tuple[WaitingEvent, list[AnyEvent]]:
    found = tried.due()
    assert found is not None
    return found


def sequences(tried: SetAside) -> list[int]:
    return [event.origin.sequence for event in due(tried)[1]]


def test_nothing_waits_before_a_room_is_set_aside(tried: SetAside) -> None:
    batch = [event(1, "a"), event(2, "b")]
    assert tried.fitting(batch) is batch
    assert tried.stored(batch) == []
    assert tried.ids_of(batch) == []
    assert tried.seconds_until_due(7.0) == 7.0


def test_only_later_events_of_the_room_wait_behind_the_first_one(tried: SetAside) -> None:
    tried.add([tried.new(event(1, "a"))])
    assert [one.message.sequence for one in tried.stored([event(2, "b"), event(3, "a"), event(4, "c")])] == [3]


def test_events_end_before_the_first_one_that_has_no_place(tried: SetAside) -> None:
    tried.add([tried.new(event(1, "a"))])
    batch = [event(2, "a"), event(3, "b"), event(4, "a"), event(5, "a"), event(6, "b")]
    assert tried.fitting(batch) == batch[:3]
    assert tried.fitting([event(2, "a", 900), event(3, "a", 900)])[1:] == []
    tried.add(tried.stored(batch[:3]))
    assert not tried.has_place_for(event(7, "c"))
    assert tried.fitting([event(7, "b")]) == [event(7, "b")]


def test_room_is_tried_after_a_pause_that_grows_oldest_event_first(tried: SetAside, clock: Clock) -> None:
    tried.add([tried.new(event(1, "a")), tried.new(event(2, "a"))])
    pauses = []
    for _ in range(8):
        assert tried.due() is None
        pauses.append(tried.seconds_until_due(60.0))
        clock.now += pauses[-1]
        first, _ = due(tried)
        assert first.event.origin.sequence == 1
        tried.failed(first, first.stored)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_room_that_conflicts_is_tried_every_few_seconds(tried: SetAside, clock: Clock) -> None:
    tried.add([tried.new(event(1, "a"))])
    for _ in range(8):
        clock.now += tried.seconds_until_due(60.0)
        first, _ = due(tried)
        tried.conflicted(first, "112")
    assert tried.seconds_until_due(60.0) == 5


def test_room_that_another_writer_holds_is_named_every_30_s(tried: SetAside, clock: Clock) -> None:
    tried.add([tried.new(event(1, "a"))])
    with capture_logs() as lines:
        for _ in range(70):
            clock.now += 1
            if found := tried.due():
                tried.conflicted(found[0], "112")
    assert [(line["room"], line["cause"]) for line in lines] == [("a", "112"), ("a", "112")]
    assert [line["seconds"] // 30 for line in lines] == [1, 2]


def test_events_of_a_room_that_recovers_go_on_at_once_more_at_a_time(tried: SetAside, clock: Clock) -> None:
    tried.add([tried.new(event(number, "a")) for number in (1, 2, 3)])
    clock.now += 1
    _, first = due(tried)
    assert tried.ids_of(first) == ["s.0.waiting.0000000003.00000000000000000001"]
    tried.succeeded("a", 1)
    assert sequences(tried) == [2, 3]
    tried.try_alone(due(tried)[0])
    assert sequences(tried) == [2], "the third event may be the one that has failed"
    tried.succeeded("a", 2)
    assert "a" not in tried
    assert tried.has_place_for(event(9, "a"))


def test_room_that_was_due_first_goes_first(tried: SetAside, clock: Clock) -> None:
    tried.add([tried.new(event(1, "a"))])
    clock.now += 0.5
    tried.add([tried.new(event(2, "b"))])
    clock.now += 5
    assert sequences(tried) == [1]
    tried.succeeded("a", 1)
    assert sequences(tried) == [2]


def test_event_is_found_by_its_message_only_while_it_is_first(tried: SetAside) -> None:
    first, second = tried.new(event(1, "a")), tried.new(event(2, "a"))
    tried.add([first, second])
    assert tried.find(first.message) is not None
    assert tried.find(second.message) is None
