"""Runs on a day like any other, with crashes of the worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from store import transaction
from store.database import session_id
from store.leases import heartbeats
from store.leases.lease import read_cursors
from tests.verification.mutations.site_under_test import ADD, CREATE, PATIENCE, REMOVE, ROTATE, Town


@asynccontextmanager
async def a_day(town: Town) -> AsyncIterator[None]:
    """Let a room be made, somebody join, somebody be removed, and something be refused."""
    async with town.worker():
        await town.ask("create", CREATE)
        await town.ask("member.add", ADD)
        await town.ask("member.remove", REMOVE)
        await town.ask("member.add", {**ADD, "users": ["nobody"]})
        await town.ask("key.rotate", ROTATE)
        yield


@asynccontextmanager
async def one_batch(town: Town) -> AsyncIterator[None]:
    """Let somebody join and somebody be removed by one batch."""
    async with town.worker():
        await town.ask("create", CREATE)
    asked = [await town.made.publish(*event) for event in (("member.add", ADD), ("member.remove", REMOVE))]
    async with town.worker():
        await town.answered(*asked)
        yield


@asynccontextmanager
async def several_pages(town: Town) -> AsyncIterator[None]:
    """Let a room have more members than a page."""
    town.made.limit(page_accounts=2)
    async with a_day(town):
        yield


@asynccontextmanager
async def crash_after_applying(town: Town) -> AsyncIterator[None]:
    """Let the worker crash when somebody has joined and nobody has been told."""
    async with town.worker():
        await town.ask("create", CREATE)
        town.crash_after("apply")
        await town.ask("member.add", ADD)
        yield


@asynccontextmanager
async def crash_after_delivering(town: Town) -> AsyncIterator[None]:
    """Let the worker crash when a new key has been sent and is not in use yet."""
    async with town.worker():
        await town.ask("create", CREATE)
        town.crash_after("deliver")
        await town.ask("member.remove", REMOVE)
        yield


@asynccontextmanager
async def a_zombie(town: Town) -> AsyncIterator[None]:
    """Let another replica take over from one that is taken for dead, and that then goes on where it was."""
    held, released, over, zombies = asyncio.Event(), asyncio.Event(), asyncio.Event(), list[str]()
    committing, beat = transaction.commit, heartbeats.heartbeat

    async def hold(database: Any, session: Any, bulks: Any) -> None:
        if not armed.is_set() or held.is_set():
            await committing(database, session, bulks)
            return
        found = await read_cursors(database, town.made.site)
        zombies.extend(one["owner"] for one in found if bytes(one["session"]) == session_id(session).bytes)
        held.set()
        await asyncio.wait_for(released.wait(), PATIENCE)
        try:
            await committing(database, session, bulks)
        finally:
            over.set()

    async def die(database: Any, site: str, owner: str) -> None:
        if owner not in zombies:
            await beat(database, site, owner)

    armed = asyncio.Event()
    town.made.limit(lease_ms=1_500)
    town.monkeypatch.setattr("store.writes.apply.commit", hold)
    town.monkeypatch.setattr("store.leases.heartbeats.heartbeat", die)
    async with town.worker():
        await town.ask("create", CREATE)
        armed.set()
        asked = await town.made.publish("key.rotate", ROTATE)
        await asyncio.wait_for(held.wait(), PATIENCE)
        async with town.worker():
            await town.answered(asked)
            await town.until_nothing_is_owed()
            released.set()
            await asyncio.wait_for(over.wait(), PATIENCE)
            await town.ask("key.rotate", ROTATE)
            yield
