"""Catching up: passes over everything that was missed, one at a time.

Whatever calls for a pass while one runs gets one more after it, however often it called: the one that runs may
have read already what the call is about.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import uniform
from typing import Final


class Resync:
    """Runs a pass when it is called for.

    `run` is told whether it was called for or is tried again, and returns after how many seconds to try again, or
    None when done.
    """

    def __init__(self, run: Callable[[bool], Awaitable[float | None]]) -> None:
        self._run = run
        self._called = asyncio.Event()
        self._tried = asyncio.Event()
        self._done = asyncio.Event()

    def call(self) -> None:
        """Call for a pass that begins after now."""
        self._called.set()
        self._done.clear()

    async def tried(self) -> None:
        """Wait until a first pass has ended, well or not."""
        await self._tried.wait()

    async def done(self) -> None:
        """Wait until a pass has ended well after which none was called for."""
        await self._done.wait()

    async def serve(self) -> None:
        """Run passes for ever."""
        again: float | None = None
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._called.wait(), again)
            called = self._called.is_set()
            self._called.clear()
            again = await self._run(called)
            self._tried.set()
            if again is None and not self._called.is_set():
                self._done.set()


FIRST_RETRY_SECONDS: Final = 0.4

LONGEST_RETRY_SECONDS: Final = 8.0


class Backoff:
    """How long a client waits before it tries again, longer from time to time, by a measure of its own.

    Thousands of clients that fail at once do not come back at once, but what one client asked for together it
    asks for together again.
    """

    def __init__(self) -> None:
        self._measure = uniform(0.5, 1.5)  # noqa: S311 - jitter, no secret

    def after(self, failures: int) -> float:
        """Return how many seconds to wait after so many failures in a row."""
        return self._measure * min(FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 16), LONGEST_RETRY_SECONDS)

    def spread(self, seconds: float) -> float:
        """Return about so many seconds: the client's own share of them."""
        return self._measure * seconds
