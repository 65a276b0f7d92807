"""The feed's bookkeeping: who waits for whom, and which places belong to which stream."""

import asyncio
from typing import Any

import pytest

from roomkeys.events.event import Rotate
from roomkeys.events.position import StreamPosition
from tests.unit.builders import rotate
from worker.limits import Limits
from worker.pipeline.state.inbox import Inbox
from worker.replica.events_stream import StreamChanged
from worker.replica.feed import Feed

HERE = StreamPosition(10, 1_000, 7)
LIMITS = Limits()


def feed(tasks: Any = None) -> Feed:
    return Feed(None, 8, tasks, LIMITS)  # type: ignore[arg-type]  # nothing is read


def joined(made: Feed, partition: int, position: StreamPosition = HERE) -> Inbox:
    return made.join(partition, position, asyncio.Event())


def fill(inbox: Inbox) -> None:
    event = rotate()
    assert isinstance(event, Rotate)
    for _ in range(LIMITS.inbox_events):
        assert inbox.offer(event, HERE)


def test_a_partition_at_the_feeds_place_is_attached_at_once() -> None:
    made = feed()
    assert joined(made, 0).is_attached
    assert joined(made, 1, StreamPosition(12, 1_200, 7)).is_attached


def test_a_place_in_another_stream_of_the_same_name_is_refused() -> None:
    made = feed()
    joined(made, 0)
    other = joined(made, 1, StreamPosition(5_000, 900, 6))
    assert isinstance(other.failure, StreamChanged)
    assert not other.is_attached


async def test_a_full_inbox_holds_the_feed_up_until_somebody_is_hungry() -> None:
    made = feed()
    full = joined(made, 0)
    fill(full)
    waiting = asyncio.ensure_future(made._wait_for_space(full))
    await asyncio.sleep(0)
    assert not waiting.done()
    joined(made, 1)
    await asyncio.wait_for(waiting, 5)
    assert full.is_full, "the other inbox is empty; this one got no space"


async def test_a_full_inbox_holds_the_feed_up_until_there_is_room() -> None:
    made = feed()
    full = joined(made, 0)
    fill(full)
    waiting = asyncio.ensure_future(made._wait_for_space(full))
    await asyncio.sleep(0)
    full.discard_through(10_000)
    await asyncio.wait_for(waiting, 5)
    assert not full.is_full


async def test_who_reads_an_inbox_that_was_left_finds_the_error_and_not_silence() -> None:
    made = feed()
    inbox = joined(made, 0)
    made.leave(0)
    with pytest.raises(Exception, match="left"):
        await inbox.wait(5)


def test_an_attached_inbox_has_seen_what_the_feed_has_seen() -> None:
    made = feed()
    inbox = joined(made, 0)
    made.position = StreamPosition(20, 2_000, 7)
    assert made.position_of(inbox) == made.position
    inbox.detach(HERE)
    assert made.position_of(inbox) == HERE


async def test_what_comes_in_within_a_few_turns_joins_the_batch() -> None:
    inbox = joined(feed(), 0)
    event = rotate()
    assert isinstance(event, Rotate)

    async def come() -> None:
        for _ in range(20):
            inbox.offer(event, HERE)
            await asyncio.sleep(0)

    coming = asyncio.create_task(come())
    await inbox.drain_ready()
    assert len(inbox) == 20
    await coming


async def test_nothing_that_comes_in_is_not_waited_for() -> None:
    inbox = joined(feed(), 0)
    fill(inbox)
    await asyncio.wait_for(inbox.drain_ready(), 1)
    assert len(inbox) == LIMITS.inbox_events
