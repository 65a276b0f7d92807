"""Catching up: one pass at a time, and a burst of calls is one pass more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from roomkeys.client.resync import Resync
from tests.harness.polling import until


class Passes:
    """Passes that end when they are told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.running = 0
        self.together = 0
        self.anew: list[bool] = []
        self.ends: asyncio.Queue[float | None] = asyncio.Queue()

    async def run(self, anew: bool) -> float | None:
        self.begun += 1
        self.anew.append(anew)
        self.running += 1
        self.together = max(self.together, self.running)
        again = await self.ends.get()
        self.running -= 1
        return again


@asynccontextmanager
async def serving(passes: Passes) -> AsyncIterator[Resync]:
    catch_up = Resync(passes.run)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(catch_up.serve())
        yield catch_up
        task.cancel()


async def test_calls_during_a_pass_are_one_pass_after_it_and_never_beside_it() -> None:
    passes = Passes()
    async with serving(passes) as catch_up:
        catch_up.call()
        await until(lambda: passes.begun == 1)
        for _ in range(5):
            catch_up.call()
        passes.ends.put_nowait(None)
        await until(lambda: passes.begun == 2)
        passes.ends.put_nowait(None)
        await asyncio.wait_for(catch_up.done(), 20)
    assert (passes.begun, passes.together) == (2, 1)


async def test_it_is_done_only_after_the_pass_that_was_called_for_last() -> None:
    passes = Passes()
    async with serving(passes) as catch_up:
        catch_up.call()
        await until(lambda: passes.begun == 1)
        catch_up.call()
        done = asyncio.ensure_future(catch_up.done())
        passes.ends.put_nowait(None)
        await asyncio.wait_for(catch_up.tried(), 20)
        await until(lambda: passes.begun == 2)
        assert not done.done()
        passes.ends.put_nowait(None)
        await asyncio.wait_for(done, 20)


async def test_a_pass_that_fails_is_tried_again() -> None:
    passes = Passes()
    async with serving(passes) as catch_up:
        catch_up.call()
        passes.ends.put_nowait(0.001)
        await until(lambda: passes.begun == 2)
        passes.ends.put_nowait(None)
        await asyncio.wait_for(catch_up.done(), 20)
    assert passes.anew == [True, False]


async def test_a_call_ends_the_pause_after_a_failure() -> None:
    passes = Passes()
    async with serving(passes) as catch_up:
        catch_up.call()
        passes.ends.put_nowait(3600)
        await asyncio.wait_for(catch_up.tried(), 20)
        catch_up.call()
        await until(lambda: passes.begun == 2)
        passes.ends.put_nowait(None)
        await asyncio.wait_for(catch_up.done(), 20)
    assert passes.anew == [True, True]
