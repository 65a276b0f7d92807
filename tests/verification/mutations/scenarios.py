"""Scenarios with everyday events, crashes and a zombie."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from nats.js.api import DiscardPolicy

from roomkeys import subjects
from store import transaction
from store.database import session_id
from store.leases import heartbeats
from store.leases.heartbeats import Condition
from store.leases.lease import read_cursors
from tests.verification.mutations.site_under_test import ADD, CREATE, PATIENCE, REMOVE, ROTATE, SiteUnderTest
from worker.telemetry import metrics


@asynccontextmanager
async def everyday_events(site: SiteUnderTest) -> AsyncIterator[None]:
    """Create a room, add an account, remove one, rotate, and publish an event that is rejected."""
    async with site.worker():
        await site.ask("create", CREATE)
        await site.ask("member.add", ADD)
        await site.ask("member.remove", REMOVE)
        await site.ask("member.add", {**ADD, "users": ["nobody"]})
        await site.ask("key.rotate", ROTATE)
        yield


@asynccontextmanager
async def one_batch(site: SiteUnderTest) -> AsyncIterator[None]:
    """Add an account and remove another one in one batch."""
    async with site.worker():
        await site.ask("create", CREATE)
    request_ids = [await site.rig.publish(*event) for event in (("member.add", ADD), ("member.remove", REMOVE))]
    async with site.worker():
        await site.wait_for_results(*request_ids)
        yield


@asynccontextmanager
async def several_pages(site: SiteUnderTest) -> AsyncIterator[None]:
    """Play everyday events in a room that has more members than a page."""
    site.rig.limit(page_accounts=2)
    async with everyday_events(site):
        yield


@asynccontextmanager
async def crash_after_applying(site: SiteUnderTest) -> AsyncIterator[None]:
    """Crash after an account was added and before its notice."""
    async with site.worker():
        await site.ask("create", CREATE)
        site.crash_after("apply")
        await site.ask("member.add", ADD)
        yield


@asynccontextmanager
async def crash_after_delivering(site: SiteUnderTest) -> AsyncIterator[None]:
    """Crash after a new key was sent and before it is current."""
    async with site.worker():
        await site.ask("create", CREATE)
        site.crash_after("deliver")
        await site.ask("member.remove", REMOVE)
        yield


@asynccontextmanager
async def zombie(site: SiteUnderTest) -> AsyncIterator[None]:
    """Pause a replica in a transaction until another one has taken over, and let it continue there."""
    paused, released, over, zombies = asyncio.Event(), asyncio.Event(), asyncio.Event(), list[str]()
    committing, beat = transaction.commit, heartbeats.heartbeat

    async def hold(database: Any, session: Any, bulks: Any) -> None:
        if not armed.is_set() or paused.is_set():
            await committing(database, session, bulks)
            return
        found = await read_cursors(database, site.rig.site)
        zombies.extend(one["owner"] for one in found if bytes(one["session"]) == session_id(session).bytes)
        paused.set()
        await asyncio.wait_for(released.wait(), PATIENCE)
        try:
            await committing(database, session, bulks)
        finally:
            over.set()

    async def die(database: Any, site: str, owner: str, condition: Condition) -> None:
        if owner not in zombies:
            await beat(database, site, owner, condition)

    armed = asyncio.Event()
    site.rig.limit(lease_ms=1_500)
    site.monkeypatch.setattr("store.writes.apply.commit", hold)
    site.monkeypatch.setattr("store.leases.heartbeats.heartbeat", die)
    async with site.worker():
        await site.ask("create", CREATE)
        armed.set()
        request_id = await site.rig.publish("key.rotate", ROTATE)
        await asyncio.wait_for(paused.wait(), PATIENCE)
        async with site.worker():
            await site.wait_for_results(request_id)
            await site.until_outbox_is_empty()
            released.set()
            await asyncio.wait_for(over.wait(), PATIENCE)
            await site.ask("key.rotate", ROTATE)
            yield


@asynccontextmanager
async def refused_letter(site: SiteUnderTest) -> AsyncIterator[None]:
    """Reject an event while the dead-letter stream is full, and empty the stream later."""
    site.rig.limit(denied_retry_s=0.2)
    jetstream, name = site.rig.nc.jetstream(), subjects.dead_letter_stream(site.rig.site)
    config = (await jetstream.stream_info(name)).config
    await jetstream.update_stream(config.evolve(max_bytes=1, discard=DiscardPolicy.NEW))
    async with site.worker():
        await site.ask("create", CREATE)
        refused = metrics.INTERRUPTIONS.labels("dead_letter")._value.get()
        await site.ask("member.add", {**ADD, "users": ["nobody"]})
        await site.briefly_until(lambda: metrics.INTERRUPTIONS.labels("dead_letter")._value.get() > refused)
        await jetstream.update_stream(config.evolve(max_bytes=-1))
        yield
