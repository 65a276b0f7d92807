"""The window: what is asked for together goes together, and fails together, and nobody else with it."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from roomkeys.client.pending import Window
from tests.harness.polling import until


class Failed(Exception):
    pass


class Service:
    """Answers with the item in capitals; what begins with a `!` fails alone, a `?` fails its whole request."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def send(self, items: Sequence[str]) -> Mapping[str, str | Exception]:
        self.requests.append(list(items))
        await self.let_go.wait()
        if any(item.startswith("?") for item in items):
            raise Failed("all")
        return {item: Failed(item) if item.startswith("!") else item.upper() for item in items}


async def test_asks_within_a_window_are_one_request_of_unique_items() -> None:
    service = Service()
    async with asyncio.TaskGroup() as tasks:
        window = Window(service.send, tasks)
        answers = await asyncio.gather(*(window.ask(item) for item in "abcab"))
    assert answers == list("ABCAB")
    assert service.requests == [["a", "b", "c"]]


async def test_a_request_has_at_most_as_many_items_as_allowed() -> None:
    service = Service()
    async with asyncio.TaskGroup() as tasks:
        window = Window(service.send, tasks)
        asked = [f"r{number}" for number in range(250)]
        answers = await asyncio.gather(*(window.ask(item) for item in asked))
    assert answers == [item.upper() for item in asked]
    assert [len(items) for items in service.requests] == [100, 100, 50]


async def test_every_caller_has_its_own_answer_or_its_own_error() -> None:
    service = Service()
    async with asyncio.TaskGroup() as tasks:
        window = Window(service.send, tasks)
        answers = await asyncio.gather(*map(window.ask, ("a", "!b", "c")), return_exceptions=True)
    assert [answers[0], str(answers[1]), answers[2]] == ["A", "!b", "C"]


async def test_a_failed_request_fails_only_its_callers() -> None:
    service = Service()
    async with asyncio.TaskGroup() as tasks:
        window = Window(service.send, tasks, most=2)
        answers = await asyncio.gather(*map(window.ask, ("a", "b", "?", "d", "e")), return_exceptions=True)
    assert [type(answer) for answer in answers] == [str, str, Failed, Failed, str]


async def test_while_a_request_is_in_flight_the_next_window_is_a_request_of_its_own() -> None:
    service = Service()
    service.let_go.clear()
    async with asyncio.TaskGroup() as tasks:
        window = Window(service.send, tasks, seconds=0)
        first = tasks.create_task(window.ask("a"))
        await until(lambda: service.requests)
        second = tasks.create_task(window.ask("b"))
        await until(lambda: len(service.requests) == 2)
        assert not first.done()
        service.let_go.set()
    assert (first.result(), second.result()) == ("A", "B")


async def test_a_caller_that_goes_away_takes_nothing_from_the_others() -> None:
    service = Service()
    service.let_go.clear()
    async with asyncio.TaskGroup() as tasks:
        window = Window(service.send, tasks, seconds=0)
        leaving, staying = (tasks.create_task(window.ask("a")) for _ in range(2))
        await until(lambda: service.requests)
        leaving.cancel()
        service.let_go.set()
    assert (leaving.cancelled(), staying.result()) == (True, "A")


async def test_an_item_that_the_answer_leaves_out_is_an_error_of_its_callers_only() -> None:
    async def forgetful(_: Sequence[str]) -> Mapping[str, str | Exception]:
        return {"a": "A"}

    async with asyncio.TaskGroup() as tasks:
        window = Window(forgetful, tasks)
        first, second = await asyncio.gather(window.ask("a"), window.ask("b"), return_exceptions=True)
    assert first == "A"
    assert isinstance(second, LookupError)
    with pytest.raises(LookupError):
        raise second
