"""The recorder as the measures use it: forget, wait, and require that everybody was reached."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness.child import Child, child


class NotReached(Exception):
    """Somebody was not sent what they should hold: the run does not count."""


@dataclass
class Recording:
    """What the recorder has said so far; `load` is the largest part of its core that it ever needed."""

    recorder: Child
    expected: int = 0
    reached: int = 0
    loads: list[float] = field(default_factory=list)
    cpu: float = 0.0

    @asynccontextmanager
    async def nobody(self) -> AsyncIterator[None]:
        """Let nobody be subscribed to room keys for the length of the block."""
        await self.recorder.ask(do="close")
        try:
            yield
        finally:
            await self.recorder.ask(do="open")

    async def forget(self) -> None:
        """Begin a run."""
        self.cpu = (await self.recorder.ask(do="forget"))["cpu"]

    def begin_until(self, keys: int, results: int = 0) -> None:
        """Begin to wait for this many keys and results of the run."""
        self.recorder.send(do="until", keys=keys, results=results)

    async def until(self) -> dict[str, Any]:
        """Wait for what `begin_until` named; returns when the last key and the last result came."""
        return await self.recorder.answer()

    def note_load(self, answer: dict[str, Any], seconds: float) -> None:
        """Note how busy the recorder was while this many seconds went by."""
        self.loads.append((answer["cpu"] - self.cpu) / seconds)

    async def check(self, keys: int, *, results: int = 0, without: str = "", once: bool = True) -> None:
        """Require that as many different (room, account) were reached, and that nobody else was.

        `once`: each by one message; otherwise `keys` are messages, of which one account may get several.
        """
        found = await self.recorder.ask(do="reach", without=without)
        reached = found["reached"] if once else found["messages"]
        if (reached, found["results"], found["wrongly"]) != (keys, results, 0) or found["keys"] != found[
            "versions"
        ]:
            raise NotReached(f"{keys} keys and {results} results were expected, and this was found: {found}")
        self.expected += keys
        self.reached += reached


@asynccontextmanager
async def recording(nats_url: str) -> AsyncIterator[Recording]:
    """Run a recorder."""
    async with child("recorder", [sys.executable, "-m", "benchmarks.harness.recorder", nats_url], {}) as recorder:
        await recorder.answer()
        yield Recording(recorder)
