"""The recorder as the scenarios use it: reset it, wait for messages, and require that everybody was reached."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness.child import Child, child


class NotReached(Exception):
    """Not every expected message arrived, or a removed account was sent a key. The run does not count."""


@dataclass
class Recording:
    """The answers of the recorder so far. `loads` are the shares of a core that it used, one per measurement."""

    recorder: Child
    expected: int = 0
    reached: int = 0
    loads: list[float] = field(default_factory=list)
    cpu: float = 0.0

    @asynccontextmanager
    async def unsubscribed(self) -> AsyncIterator[None]:
        """Leave room keys without a subscriber for the length of the block."""
        await self.recorder.ask(do="close")
        try:
            yield
        finally:
            await self.recorder.ask(do="open")

    async def reset(self) -> None:
        """Start a new run."""
        self.cpu = (await self.recorder.ask(do="reset"))["cpu"]

    def begin_until(self, keys: int, results: int = 0) -> None:
        """Start to wait for this many keys and results of the run."""
        self.recorder.send(do="until", keys=keys, results=results)

    async def until(self) -> dict[str, Any]:
        """Wait for what `begin_until` named; return the times of the last key and of the last result."""
        return await self.recorder.answer()

    def note_load(self, answer: dict[str, Any], seconds: float) -> None:
        """Note the share of a core that the recorder used during these seconds."""
        self.loads.append((answer["cpu"] - self.cpu) / seconds)

    async def check(self, keys: int, *, results: int = 0, without: str = "", once: bool = True) -> None:
        """Require that this many distinct (room, account) were reached, and that `without` was not.

        With `once=False`, `keys` counts messages, of which one account may get several.
        """
        found = await self.recorder.ask(do="reach", without=without)
        reached = found["reached"] if once else found["messages"]
        if (reached, found["results"], found["excluded"]) != (keys, results, 0) or found["keys"] != found["versions"]:
            raise NotReached(f"expected {keys} keys and {results} results, found {found}")
        self.expected += keys
        self.reached += reached


@asynccontextmanager
async def recording(nats_url: str) -> AsyncIterator[Recording]:
    """Run a recorder process."""
    async with child("recorder", [sys.executable, "-m", "benchmarks.harness.recorder", nats_url], {}) as recorder:
        await recorder.answer()
        yield Recording(recorder)
