"""Runs with a big room, whose pass is held back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from store.reads import members
from tests.verification.mutations.site_under_test import ADD, CREATE, PATIENCE, REMOVE, Town
from worker.pipeline.deliver import Publisher


class HeldPass:
    """Holds the pass of a big room back, once armed, when it has come to the first two members."""

    def __init__(self, town: Town) -> None:
        self.armed, self.reached, self.released = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._pages = members._read_pages
        town.made.limit(large_room_members=2, page_accounts=2)
        town.monkeypatch.setattr("store.reads.members._read_pages", self.pages)

    async def pages(self, *args: Any) -> AsyncIterator[Any]:
        async for page in self._pages(*args):
            yield page
            if self.armed.is_set():
                self.reached.set()
                await self.released.wait()


@asynccontextmanager
async def joining(town: Town, held: HeldPass, newcomer: str) -> AsyncIterator[None]:
    """Let somebody join a big room while its new key is on its way and has come to alice and carol."""
    async with town.worker():
        await town.ask("create", CREATE)
        held.armed.set()
        asked = [await town.made.publish("member.remove", REMOVE)]
        await asyncio.wait_for(held.reached.wait(), PATIENCE)
        asked.append(await town.made.publish("member.add", {**ADD, "users": [newcomer]}))
        await town.told(newcomer)
        held.released.set()
        await town.answered(*asked)
        yield


@asynccontextmanager
async def a_newcomer_behind_the_pass(town: Town) -> AsyncIterator[None]:
    """Let somebody join a big room when its new key has been sent to those who sort after them."""
    async with joining(town, HeldPass(town), "aaron"):
        yield


@asynccontextmanager
async def a_newcomer_before_the_pass(town: Town) -> AsyncIterator[None]:
    """Let a pass come to somebody new after they were written and before they are told."""
    held, tell = HeldPass(town), Publisher.publish_notices

    async def late(self: Publisher, owed: Any) -> None:
        if held.reached.is_set() and not held.released.is_set():
            held.released.set()
            await town.briefly_until(lambda: town.made.keys("dave"))
        await tell(self, owed)

    town.monkeypatch.setattr(Publisher, "publish_notices", late)
    async with joining(town, held, "dave"):
        yield
