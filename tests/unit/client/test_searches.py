"""Searches: one a key, however many wait; a deadline for each; an end as soon as the key comes."""

import asyncio

import pytest

from roomkeys.client.errors import (
    ClientClosed,
    KeyMissing,
    KeyNotAvailable,
    KeyTimeout,
    NotRoomMember,
    ServiceUnavailable,
)
from roomkeys.client.pending import Searches
from roomkeys.client.resync import Backoff
from roomkeys.keys import RoomKey
from roomkeys.messages.key_requests import Item
from tests.harness.polling import until

KEY = RoomKey(3, bytes(32))
ITEM = Item("r1", 3)
PATIENCE = 20


class Impatient(Backoff):
    def after(self, failures: int) -> float:
        assert failures > 0
        return 0


class Service:
    """Says no with each of these errors in turn, and then the key, or for ever nothing."""

    def __init__(self, *errors: KeyMissing, silent: bool = False) -> None:
        self.errors = list(errors)
        self.silent = silent
        self.asked: list[Item] = []

    async def ask(self, item: Item) -> RoomKey:
        self.asked.append(item)
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        if self.silent:
            await asyncio.Event().wait()
        return KEY


async def test_a_hundred_who_miss_a_key_ask_for_it_once() -> None:
    service = Service()
    async with asyncio.TaskGroup() as tasks:
        searches = Searches(service.ask, Impatient(), tasks)
        found = await asyncio.gather(*(searches.find(ITEM, PATIENCE) for _ in range(100)))
    assert found == [KEY] * 100
    assert (service.asked, len(searches)) == ([ITEM], 0)


async def test_what_passes_is_asked_again_and_what_does_not_is_raised_at_once() -> None:
    away = ServiceUnavailable("r1", 3)
    service = Service(away, away, KeyNotAvailable("r1", 3), NotRoomMember("r1", 3, retryable=False))
    async with asyncio.TaskGroup() as tasks:
        searches = Searches(service.ask, Impatient(), tasks)
        with pytest.raises(NotRoomMember) as error:
            await searches.find(ITEM, PATIENCE)
    assert (error.value.room_id, error.value.version, error.value.reason) == ("r1", 3, "not_room_member")
    assert len(service.asked) == 4


async def test_a_key_that_comes_by_itself_ends_the_search() -> None:
    service = Service(silent=True)
    async with asyncio.TaskGroup() as tasks:
        searches = Searches(service.ask, Impatient(), tasks)
        by_version = tasks.create_task(searches.find(ITEM, PATIENCE))
        in_use = tasks.create_task(searches.find(Item("r1"), PATIENCE))
        await until(lambda: len(service.asked) == 2)
        searches.arrived(ITEM, KEY)
        assert await by_version == KEY
        assert not in_use.done()
        searches.arrived(Item("r1"), KEY)
        assert await in_use == KEY
    assert len(searches) == 0


@pytest.mark.parametrize(
    ("errors", "expected"), [((), KeyTimeout), ((KeyNotAvailable("r1", 3),), KeyNotAvailable)]
)
async def test_at_the_deadline_the_last_reason_is_raised(
    errors: tuple[KeyMissing, ...], expected: type[KeyMissing]
) -> None:
    service = Service(*errors, silent=True)
    async with asyncio.TaskGroup() as tasks:
        searches = Searches(service.ask, Impatient(), tasks)
        with pytest.raises(expected) as error:
            await searches.find(ITEM, 0.05)
        assert (error.value.room_id, error.value.version) == ("r1", 3)
        assert len(searches) == 0, "a search went on for nobody"


async def test_one_who_gives_up_does_not_end_the_others_search() -> None:
    service = Service(silent=True)
    async with asyncio.TaskGroup() as tasks:
        searches = Searches(service.ask, Impatient(), tasks)
        staying = tasks.create_task(searches.find(ITEM, PATIENCE))
        with pytest.raises(KeyTimeout):
            await searches.find(ITEM, 0)
        searches.arrived(ITEM, KEY)
        assert await staying == KEY
    assert len(service.asked) == 1


async def test_whoever_waits_is_told_of_the_end_and_whoever_comes_later_too() -> None:
    service = Service(silent=True)
    async with asyncio.TaskGroup() as tasks:
        searches = Searches(service.ask, Impatient(), tasks)
        waiting = asyncio.ensure_future(searches.find(ITEM, PATIENCE))
        await until(lambda: service.asked)
        searches.close()
        with pytest.raises(ClientClosed):
            await waiting
        with pytest.raises(ClientClosed):
            await searches.find(ITEM, PATIENCE)


def test_pauses_grow_to_a_limit_and_differ_from_client_to_client() -> None:
    clients = [Backoff() for _ in range(1000)]
    for pauses in clients:
        grown = [pauses.after(failures) for failures in range(1, 10)]
        assert grown == sorted(grown)
        assert 0.2 <= grown[0] <= 0.6
        assert 4 <= grown[-1] <= 12
    first = sorted(pauses.after(1) for pauses in clients)
    assert first[-1] - first[0] > 0.3, (first[0], first[-1])


def test_an_error_says_what_is_missing_and_why() -> None:
    assert str(KeyNotAvailable("r1", 3)) == "room r1: no key 3: it has expired or is not in use yet"
    assert str(KeyTimeout("r1", None)) == "room r1: no key in use: nothing came before the deadline"
