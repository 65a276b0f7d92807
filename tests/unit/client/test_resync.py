"""Resync: one pass at a time, and one more after all requests that came during a pass."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from roomkeys.client.resync import Resync
from tests.harness.polling import until

TIMEOUT = 20


class Passes:
    """Passes that each end with the next queued result."""

    def __init__(self) -> None:
        self.begun = 0
        self.running = 0
        self.most_at_once = 0
        self.requested: list[bool] = []
        self.results: asyncio.Queue[float | None] = asyncio.Queue()

    async def run(self, requested: bool) -> float | None:
        self.begun += 1
        self.requested.append(requested)
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        result = await self.results.get()
        self.running -= 1
        return result


@asynccontextmanager
async def serving(passes: Passes) -> AsyncIterator[Resync]:
    resync = Resync()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(resync.serve(passes.run))
        yield resync
        task.cancel()


async def test_requests_during_a_pass_cause_one_more_pass_after_it() -> None:
    passes = Passes()
    async with serving(passes) as resync:
        resync.request()
        await until(lambda: passes.begun == 1)
        for _ in range(5):
            resync.request()
        passes.results.put_nowait(None)
        await until(lambda: passes.begun == 2)
        passes.results.put_nowait(None)
        await asyncio.wait_for(resync.complete.wait(), TIMEOUT)
    assert (passes.begun, passes.most_at_once) == (2, 1)


async def test_resync_is_complete_only_after_the_last_requested_pass() -> None:
    passes = Passes()
    async with serving(passes) as resync:
        resync.request()
        await until(lambda: passes.begun == 1)
        resync.request()
        complete = asyncio.ensure_future(resync.complete.wait())
        passes.results.put_nowait(None)
        await asyncio.wait_for(resync.attempted.wait(), TIMEOUT)
        await until(lambda: passes.begun == 2)
        assert not complete.done()
        passes.results.put_nowait(None)
        await asyncio.wait_for(complete, TIMEOUT)


async def test_a_failed_pass_is_repeated_after_its_pause() -> None:
    passes = Passes()
    async with serving(passes) as resync:
        resync.request()
        passes.results.put_nowait(0.001)
        await until(lambda: passes.begun == 2)
        passes.results.put_nowait(None)
        await asyncio.wait_for(resync.complete.wait(), TIMEOUT)
    assert passes.requested == [True, False]


async def test_a_request_ends_the_pause_after_a_failed_pass() -> None:
    passes = Passes()
    async with serving(passes) as resync:
        resync.request()
        passes.results.put_nowait(3600)
        await asyncio.wait_for(resync.attempted.wait(), TIMEOUT)
        resync.request()
        await until(lambda: passes.begun == 2)
        passes.results.put_nowait(None)
        await asyncio.wait_for(resync.complete.wait(), TIMEOUT)
    assert passes.requested == [True, True]


@pytest.mark.parametrize("ticks", range(5))
async def test_cancellation_that_meets_a_request_is_not_lost(ticks: int) -> None:
    """A client that is left waits until its task has ended."""
    resync = Resync()

    async def run(_requested: bool) -> float:
        return 60.0

    serving = asyncio.create_task(resync.serve(run))
    resync.request()
    await resync.attempted.wait()
    await asyncio.sleep(0)
    resync.request()
    for _ in range(ticks):
        await asyncio.sleep(0)
    serving.cancel()
    await asyncio.wait({serving}, timeout=1)
    assert serving.cancelled()
