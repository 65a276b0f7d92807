"""The end of a process: one budget of time for all its steps, whatever hangs. (docs/contract.md, section 7)

MongoDB or NATS may hang just when the process has to end. Then a step of the end would wait for its own timeout, and
the steps together for longer than an orchestrator waits before it kills the process.
"""

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final

from worker.broker.cancellation import cancel_and_wait
from worker.limits import Limits
from worker.telemetry.logs import logger

_SHORTEST_S: Final = 0.1

log = logger("shutdown")


class Unfinished(Exception):
    """The time was up before the batches in hand were finished: the next owner of their partitions recovers them."""


class Shutdown:
    """The wish to stop, and the time that stopping may take: `seconds`, from the first step on.

    `has_batch` returns the partitions that have a batch in hand.
    """

    def __init__(self, stop: asyncio.Event, seconds: float) -> None:
        self.stop = stop
        self.has_batch: Callable[[], list[int]] = list
        self._seconds = seconds
        self._ends: float | None = None

    async def step(self, name: str, end: Callable[[], Awaitable[object]], keep: float = 0.0) -> bool:
        """Run a step of the end; cancel it when only `keep` seconds are left, and return False.

        `keep` is what the steps after this one need if they hang too. A step that does not end when it is cancelled
        is left behind.
        """
        if self._ends is None:
            self._ends = time.monotonic() + self._seconds
        task = asyncio.ensure_future(end())
        try:
            await asyncio.wait({task}, timeout=max(self._ends - keep - time.monotonic(), _SHORTEST_S))
        except asyncio.CancelledError:
            task.cancel()
            raise
        if task.done():
            task.result()
            return True
        log.warning("a step of the shutdown took too long and was given up", step=name)
        await asyncio.wait({asyncio.ensure_future(cancel_and_wait(task))}, timeout=_SHORTEST_S)
        return False

    def require_finished(self) -> None:
        """Raise `Unfinished` if a batch is still in hand."""
        if numbers := self.has_batch():
            raise Unfinished(f"stopped with a batch in hand in partitions {numbers}: their next owner finishes it")

    async def outlast(self, name: str, work: Awaitable[object], keep: float) -> None:
        """Await the work; from the wish to stop on, only as long as a step may take."""
        task, stopping = asyncio.ensure_future(work), asyncio.ensure_future(self.stop.wait())
        try:
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await self.step(name, lambda: task, keep) if not task.done() else task.result()
        except asyncio.CancelledError:
            await cancel_and_wait(task)
            raise
        finally:
            stopping.cancel()

    async def unless_stopped(self, attempt: Awaitable[object]) -> None:
        """Await the attempt; cancel it when the wish to stop comes first."""
        trying, stopping = asyncio.ensure_future(attempt), asyncio.ensure_future(self.stop.wait())
        try:
            await asyncio.wait({trying, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if trying.done():
                trying.result()
        finally:
            stopping.cancel()
            await cancel_and_wait(trying)


async def exit_late(stop: asyncio.Event, limits: Limits) -> None:
    """Wait for the wish to stop, and then make sure that the process exits, with code 1 if it takes too long.

    A thread watches: the event loop itself may hang, and Motor's threads keep the interpreter alive while they wait
    for a server.
    """
    await stop.wait()
    watch = threading.Timer(limits.shutdown_s + limits.exit_after_s, os._exit, [1])
    watch.daemon = True
    watch.start()
