"""Pending keys: one entry per key, one request per window, one deadline per caller."""

import asyncio
import gc
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from roomkeys.backoff import NO_JITTER, Backoff
from roomkeys.client.errors import (
    ClientClosed,
    KeyMissing,
    KeyNotAvailable,
    KeyTimeout,
    NotRoomMember,
    ServiceUnavailable,
)
from roomkeys.client.pending import PendingKeys
from roomkeys.keys import RoomKey
from roomkeys.messages.key_requests import Item
from tests.harness.polling import until

KEY = RoomKey(3, bytes(32))
ITEM = Item("r1", 3)
DEADLINE = 20
AT_ONCE = Backoff(0, 0)


class Service:
    """Answers each item with its queued errors in turn, and then with the key."""

    def __init__(self, errors: Mapping[Item, Sequence[KeyMissing]] | None = None) -> None:
        self.errors = {item: list(queued) for item, queued in (errors or {}).items()}
        self.requests: list[list[Item]] = []
        self.answers = asyncio.Event()
        self.answers.set()

    async def fetch(self, items: Sequence[Item]) -> dict[Item, RoomKey | KeyMissing]:
        self.requests.append(list(items))
        await self.answers.wait()
        return {item: self.errors[item].pop(0) if self.errors.get(item) else KEY for item in items}


@asynccontextmanager
async def pending_keys(
    service: Service, *, backoff: Backoff = AT_ONCE, window_seconds: float = 0.0, max_items: int = 100
) -> AsyncIterator[PendingKeys]:
    pending = PendingKeys(backoff, window_seconds=window_seconds, max_items=max_items)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(pending.serve(service.fetch))
        yield pending
        serving.cancel()


def items(count: int) -> list[Item]:
    return [Item(f"r{number}", 3) for number in range(count)]


async def test_a_hundred_callers_for_one_key_cause_one_request() -> None:
    service = Service()
    async with pending_keys(service) as pending:
        keys = await asyncio.gather(*(pending.get(ITEM, DEADLINE) for _ in range(100)))
        assert (keys, service.requests, len(pending)) == ([KEY] * 100, [[ITEM]], 0)


async def test_keys_missed_within_one_window_share_one_request() -> None:
    service = Service()
    async with pending_keys(service, window_seconds=0.05) as pending:
        first = asyncio.ensure_future(pending.get(Item("r0", 3), DEADLINE))
        await asyncio.sleep(0.005)
        await asyncio.gather(*(pending.get(item, DEADLINE) for item in items(3)))
        await first
    assert service.requests == [items(3)]


async def test_a_request_has_at_most_a_hundred_items() -> None:
    service = Service()
    async with pending_keys(service) as pending:
        await asyncio.gather(*(pending.get(item, DEADLINE) for item in items(250)))
    assert [len(request) for request in service.requests] == [100, 100, 50]


async def test_a_window_does_not_wait_for_earlier_requests() -> None:
    service = Service()
    service.answers.clear()
    async with pending_keys(service) as pending:
        first = asyncio.ensure_future(pending.get(Item("r1"), DEADLINE))
        await until(lambda: service.requests)
        second = asyncio.ensure_future(pending.get(Item("r2"), DEADLINE))
        await until(lambda: len(service.requests) == 2)
        assert not first.done()
        service.answers.set()
        assert (await first, await second) == (KEY, KEY)


async def test_each_item_of_a_request_has_its_own_outcome() -> None:
    refused = NotRoomMember("r1", 3, retryable=False)
    service = Service({Item("r1", 3): [refused]})
    async with pending_keys(service) as pending:
        outcomes = await asyncio.gather(*(pending.get(item, DEADLINE) for item in items(3)), return_exceptions=True)
    assert [outcomes[0], type(outcomes[1]), outcomes[2]] == [KEY, NotRoomMember, KEY]
    assert len(service.requests) == 1


async def test_a_failed_request_fails_only_its_own_items() -> None:
    refused = {item: [NotRoomMember(item.room_id, 3, retryable=False)] for item in items(4)[2:]}
    service = Service(refused)
    async with pending_keys(service, max_items=2) as pending:
        outcomes = await asyncio.gather(*(pending.get(item, DEADLINE) for item in items(5)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [RoomKey, RoomKey, NotRoomMember, NotRoomMember, RoomKey]


async def test_a_retryable_error_is_retried_and_a_final_one_is_raised_at_once() -> None:
    unavailable = ServiceUnavailable("r1", 3)
    refused = NotRoomMember("r1", 3, retryable=False)
    service = Service({ITEM: [unavailable, unavailable, KeyNotAvailable("r1", 3), refused]})
    async with pending_keys(service) as pending:
        with pytest.raises(NotRoomMember) as error:
            await pending.get(ITEM, DEADLINE)
    assert (error.value.room_id, error.value.version, error.value.reason) == ("r1", 3, "not_room_member")
    assert service.requests == [[ITEM]] * 4


async def test_keys_requested_together_are_retried_together() -> None:
    service = Service({item: [ServiceUnavailable(item.room_id, 3)] * 2 for item in items(250)})
    async with pending_keys(service, backoff=Backoff(0.02, 1, spread=NO_JITTER), window_seconds=0.05) as pending:
        await asyncio.gather(*(pending.get(item, DEADLINE) for item in items(250)))
    assert [len(request) for request in service.requests] == [100, 100, 50] * 3


async def test_a_key_that_arrives_another_way_ends_the_wait() -> None:
    service = Service()
    service.answers.clear()
    async with pending_keys(service) as pending:
        by_version = asyncio.ensure_future(pending.get(ITEM, DEADLINE))
        in_use = asyncio.ensure_future(pending.get(Item("r1"), DEADLINE))
        await until(lambda: service.requests)
        pending.resolve(ITEM, KEY)
        assert await by_version == KEY
        assert not in_use.done()
        pending.resolve(Item("r1"), KEY)
        assert await in_use == KEY
        assert len(pending) == 0


async def test_a_key_that_arrives_during_a_pause_is_not_requested_again() -> None:
    service = Service({ITEM: [ServiceUnavailable("r1", 3)]})
    async with pending_keys(service, backoff=Backoff(0.02, 0.02, spread=NO_JITTER)) as pending:
        getting = asyncio.ensure_future(pending.get(ITEM, DEADLINE))
        await until(lambda: service.requests and not service.errors[ITEM])
        pending.resolve(ITEM, KEY)
        assert await getting == KEY
        await asyncio.sleep(0.05)
    assert service.requests == [[ITEM]]


@pytest.mark.parametrize(("errors", "expected"), [([], KeyTimeout), ([KeyNotAvailable("r1", 3)], KeyNotAvailable)])
async def test_the_last_error_is_raised_at_the_deadline(errors: list[KeyMissing], expected: type[KeyMissing]) -> None:
    service = Service({ITEM: errors})
    if not errors:
        service.answers.clear()
    async with pending_keys(service, backoff=Backoff(DEADLINE, DEADLINE)) as pending:
        with pytest.raises(expected) as error:
            await pending.get(ITEM, 0.05)
        assert (error.value.room_id, error.value.version) == ("r1", 3)
        assert len(pending) == 0


async def test_each_caller_raises_its_own_copy_of_an_error() -> None:
    original = NotRoomMember("r1", 3, retryable=False)
    service = Service({ITEM: [original]})
    async with pending_keys(service) as pending:
        first, second = await asyncio.gather(*(pending.get(ITEM, DEADLINE) for _ in range(2)), return_exceptions=True)
    assert isinstance(first, NotRoomMember)
    assert isinstance(second, NotRoomMember)
    assert len({id(first), id(second), id(original)}) == 3
    assert (first.room_id, first.version, first.retryable) == ("r1", 3, False)


async def test_a_caller_that_reaches_its_deadline_leaves_the_entry_to_the_others() -> None:
    service = Service()
    service.answers.clear()
    async with pending_keys(service) as pending:
        staying = asyncio.ensure_future(pending.get(ITEM, DEADLINE))
        with pytest.raises(KeyTimeout):
            await pending.get(ITEM, 0)
        pending.resolve(ITEM, KEY)
        assert await staying == KEY
    assert len(service.requests) <= 1


async def test_a_cancelled_caller_leaves_the_entry_to_the_others() -> None:
    service = Service()
    service.answers.clear()
    async with pending_keys(service) as pending:
        leaving, staying = (asyncio.ensure_future(pending.get(ITEM, DEADLINE)) for _ in range(2))
        await until(lambda: service.requests)
        leaving.cancel()
        await asyncio.wait({leaving})
        service.answers.set()
        assert (leaving.cancelled(), await staying) == (True, KEY)


async def test_an_entry_that_nobody_waits_for_is_dropped_and_not_requested() -> None:
    service = Service()
    async with pending_keys(service, window_seconds=0.02) as pending:
        with pytest.raises(KeyTimeout):
            await pending.get(ITEM, 0)
        assert len(pending) == 0
        await pending.get(Item("r2"), DEADLINE)
    assert service.requests == [[Item("r2")]]


async def test_a_reply_to_a_dropped_entry_does_not_end_a_later_one() -> None:
    """The account may have become a member after the first request was sent."""
    service = Service({ITEM: [NotRoomMember("r1", 3, retryable=False)]})
    service.answers.clear()
    async with pending_keys(service) as pending:
        first = asyncio.ensure_future(pending.get(ITEM, DEADLINE))
        await until(lambda: service.requests)
        first.cancel()
        await asyncio.wait({first})
        later = asyncio.ensure_future(pending.get(ITEM, DEADLINE))
        await until(lambda: len(service.requests) == 2)
        service.answers.set()
        assert await later == KEY


async def test_close_fails_present_and_later_callers() -> None:
    service = Service()
    service.answers.clear()
    async with pending_keys(service) as pending:
        waiting = asyncio.ensure_future(pending.get(ITEM, DEADLINE))
        await until(lambda: service.requests)
        pending.close()
        with pytest.raises(ClientClosed):
            await waiting
        with pytest.raises(ClientClosed):
            await pending.get(ITEM, DEADLINE)


async def test_no_exception_is_left_unretrieved(caplog: pytest.LogCaptureFixture) -> None:
    """The event loop logs such an exception when its future is collected."""
    service = Service({ITEM: [ServiceUnavailable("r1", 3)] * 5})
    async with pending_keys(service) as pending:
        leaving = asyncio.ensure_future(pending.get(ITEM, DEADLINE))
        await until(lambda: service.requests)
        leaving.cancel()
        with pytest.raises(KeyTimeout):
            await pending.get(Item("r2"), 0)
        await asyncio.wait({leaving})
        pending.close()
    gc.collect()
    await asyncio.sleep(0)
    assert caplog.records == []
