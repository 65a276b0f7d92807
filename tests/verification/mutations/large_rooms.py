"""Scenarios with a large room whose pass is paused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from store.reads import members
from tests.verification.mutations.site_under_test import ADD, CREATE, PATIENCE, REMOVE, SiteUnderTest
from worker.pipeline.deliver import Publisher


class PausedPass:
    """Pauses the pass of a large room, once armed, after it has read the first two members."""

    def __init__(self, site: SiteUnderTest) -> None:
        self.armed, self.reached, self.released = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._pages = members._read_pages
        site.rig.limit(large_room_members=2, page_accounts=2)
        site.monkeypatch.setattr("store.reads.members._read_pages", self.pages)

    async def pages(self, *args: Any) -> AsyncIterator[Any]:
        async for page in self._pages(*args):
            yield page
            if self.armed.is_set():
                self.reached.set()
                await self.released.wait()


@asynccontextmanager
async def joining(site: SiteUnderTest, paused: PausedPass, joiner: str) -> AsyncIterator[None]:
    """Add an account to a large room while its new key is on its way and was sent to alice and carol."""
    async with site.worker():
        await site.ask("create", CREATE)
        paused.armed.set()
        request_ids = [await site.rig.publish("member.remove", REMOVE)]
        await asyncio.wait_for(paused.reached.wait(), PATIENCE)
        request_ids.append(await site.rig.publish("member.add", {**ADD, "users": [joiner]}))
        await site.wait_for_notice(joiner)
        paused.released.set()
        await site.wait_for_results(*request_ids)
        yield


@asynccontextmanager
async def joiner_behind_the_pass(site: SiteUnderTest) -> AsyncIterator[None]:
    """Add an account that sorts before the members to whom the new key was sent already."""
    async with joining(site, PausedPass(site), "aaron"):
        yield


@asynccontextmanager
async def joiner_ahead_of_the_pass(site: SiteUnderTest) -> AsyncIterator[None]:
    """Let a pass reach a joiner after it was written and before its notice."""
    paused, publish = PausedPass(site), Publisher.publish_notices

    async def late(self: Publisher, entries: Any) -> None:
        if paused.reached.is_set() and not paused.released.is_set():
            paused.released.set()
            await site.briefly_until(lambda: site.rig.keys("dave"))
        await publish(self, entries)

    site.monkeypatch.setattr(Publisher, "publish_notices", late)
    async with joining(site, paused, "dave"):
        yield
