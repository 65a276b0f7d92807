"""The feed's bookkeeping: who waits for whom, and which places belong to which stream."""

import asyncio
from typing import Any

import pytest

from roomkeys.events.event import Rotate
from roomkeys.events.position import StreamPosition
from tests.unit.builders import rotate
from worker.pipeline.inbox import INBOX_EVENTS, Inbox
from worker.replica.feed import Feed, StreamChanged

HERE = StreamPosition(10, 1_000, 7)


def feed(tasks: Any = None) -> Feed:
    return Feed(None, "ROOMS_x", 8, tasks)  # type: ignore[arg-type]  # nothing here is read from a broker


def fill(inbox: Inbox) -> None:
    event = rotate()
    assert isinstance(event, Rotate)
    for _ in range(INBOX_EVENTS):
        inbox.put(event)


def test_a_partition_at_the_feeds_place_is_attached_at_once() -> None:
    made = feed()
    assert made.join(0, HERE).attached
    assert made.join(1, StreamPosition(12, 1_200, 7)).attached


def test_a_place_in_another_stream_of_the_same_name_is_refused() -> None:
    made = feed()
    made.join(0, HERE)
    stranger = made.join(1, StreamPosition(5_000, 900, 6))
    assert isinstance(stranger.failure, StreamChanged)
    assert not stranger.attached


async def test_a_full_inbox_holds_the_feed_up_until_somebody_is_hungry() -> None:
    made = feed()
    full = made.join(0, HERE)
    fill(full)
    waiting = asyncio.ensure_future(made._until_room_or_hunger(full))
    await asyncio.sleep(0)
    assert not waiting.done()
    made.join(1, HERE)
    await asyncio.wait_for(waiting, 5)
    assert full.full, "it was the hunger of the other, not room"


async def test_a_full_inbox_holds_the_feed_up_until_there_is_room() -> None:
    made = feed()
    full = made.join(0, HERE)
    fill(full)
    waiting = asyncio.ensure_future(made._until_room_or_hunger(full))
    await asyncio.sleep(0)
    full.discard_through(10_000)
    await asyncio.wait_for(waiting, 5)
    assert not full.full


async def test_who_reads_an_inbox_that_was_left_finds_the_error_and_not_silence() -> None:
    made = feed()
    inbox = made.join(0, HERE)
    made.leave(0)
    with pytest.raises(Exception, match="left"):
        await inbox.wait(5)


def test_an_attached_inbox_has_seen_what_the_feed_has_seen() -> None:
    made = feed()
    inbox = made.join(0, HERE)
    made.place = StreamPosition(20, 2_000, 7)
    assert made.seen(inbox) == made.place
    inbox.attached = False
    assert made.seen(inbox) == HERE


async def test_what_comes_in_within_a_few_turns_joins_the_batch() -> None:
    inbox = feed().join(0, HERE)
    event = rotate()
    assert isinstance(event, Rotate)

    async def come() -> None:
        for _ in range(20):
            inbox.put(event)
            await asyncio.sleep(0)

    coming = asyncio.create_task(come())
    await inbox.drain_ready()
    assert len(inbox) == 20
    await coming


async def test_nothing_that_comes_in_is_not_waited_for() -> None:
    inbox = feed().join(0, HERE)
    fill(inbox)
    await asyncio.wait_for(inbox.drain_ready(), 1)
    assert len(inbox) == INBOX_EVENTS
