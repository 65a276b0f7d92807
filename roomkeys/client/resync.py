"""Resync: fetches everything that a client may have missed, one pass at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

Pass = Callable[[bool], Awaitable[float | None]]
"""One pass. Its argument tells whether it was requested (True) or repeats the last one after a pause (False). It
returns after how many seconds to repeat it, or None if there is nothing left to do."""


class Resync:
    """Runs a pass when one is requested.

    Requests made during a pass cause one more after it: the running pass may have read too early for them.
    """

    def __init__(self) -> None:
        self._requested = asyncio.Event()
        self._attempted = asyncio.Event()
        self._complete = asyncio.Event()

    def request(self) -> None:
        """Request a pass that begins after this call."""
        self._requested.set()
        self._complete.clear()

    async def wait_attempted(self) -> None:
        """Wait until the first pass has ended, whether it succeeded or not."""
        await self._attempted.wait()

    async def wait_complete(self) -> None:
        """Wait until a pass has succeeded and no further one was requested."""
        await self._complete.wait()

    async def serve(self, run: Pass) -> None:
        """Run passes until cancelled."""
        pause: float | None = None
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._requested.wait(), pause)
            requested = self._requested.is_set()
            self._requested.clear()
            pause = await run(requested)
            self._attempted.set()
            if pause is None and not self._requested.is_set():
                self._complete.set()
