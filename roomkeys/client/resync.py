"""Resync: fetches everything that a client may have missed, one pass at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

Pass = Callable[[bool], Awaitable[float | None]]
"""One pass. Its argument tells whether it was requested (True) or repeats the last one after a pause (False). It
returns after how many seconds to repeat it, or None if there is nothing left to do."""


class Resync:
    """Runs a pass when requested. A request during a pass causes one more: the running one may have read too early."""

    def __init__(self) -> None:
        self._requested = asyncio.Event()
        self.attempted = asyncio.Event()
        """Set once the first pass has ended, whether it succeeded or not."""
        self.complete = asyncio.Event()
        """Set while the last pass has succeeded and no further one was requested."""

    def request(self) -> None:
        """Request a pass that begins after this call."""
        self._requested.set()
        self.complete.clear()

    async def serve(self, run: Pass) -> None:
        """Run passes until cancelled."""
        pause: float | None = None
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):  # wait_for can lose a cancellation (Python 3.11)
                    await self._requested.wait()
            requested = self._requested.is_set()
            self._requested.clear()
            pause = await run(requested)
            self.attempted.set()
            if pause is None and not self._requested.is_set():
                self.complete.set()
