"""Scenarios in which the connection to the broker fails at a critical moment."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from tests.harness.proxy import Chunk
from tests.verification.mutations.site_under_test import CREATE, PATIENCE, REMOVE, SHORT, SiteUnderTest
from worker.pipeline.deliver import Publisher


@asynccontextmanager
async def keys_lost(site: SiteUnderTest) -> AsyncIterator[None]:
    """Lose a new key on its way to the broker."""
    async with site.worker():
        await site.ask("create", CREATE)
        lost = asyncio.Event()

        async def lose(chunk: Chunk) -> bytes:
            if chunk.from_client and b"event.room.key" in chunk.data:
                lost.set()
            return b"" if chunk.from_client and lost.is_set() else chunk.data

        site.proxy.fault = lose
        request_id = await site.rig.publish("member.remove", REMOVE)
        await asyncio.wait_for(lost.wait(), PATIENCE)
        await site.until_in_use(1)
        site.proxy.fault = None
        site.proxy.cut()
        await site.wait_for_results(request_id)
        yield


@asynccontextmanager
async def large_room_keys_lost(site: SiteUnderTest) -> AsyncIterator[None]:
    """Lose the new key of a large room on its way to the broker."""
    site.rig.limit(large_room_members=2)
    async with keys_lost(site):
        yield


@asynccontextmanager
async def cut_before_the_barrier(site: SiteUnderTest) -> AsyncIterator[None]:
    """Break the connection between a new key and its barrier, and wait until it is back."""
    fan_out, cut = Publisher.fan_out_keys, asyncio.Event()

    async def interrupted(self: Publisher, keys: Any, *args: Any) -> Any:
        if 1 not in {key.version for key in keys.values()} or cut.is_set():
            return await fan_out(self, keys, *args)
        cut.set()
        epoch, site.proxy.fault = self.broker.connection_epoch, nothing
        sent = await fan_out(self, keys, *args)
        broke = asyncio.Event()
        self.broker.on_break.add(broke.set)
        site.proxy.cut()
        site.proxy.fault = None
        if self.broker.connection_epoch == epoch:
            await asyncio.wait_for(broke.wait(), PATIENCE)
        await asyncio.wait_for(self.broker.until_connected(), PATIENCE)
        return sent

    site.monkeypatch.setattr(Publisher, "fan_out_keys", interrupted)
    async with site.worker():
        await site.ask("create", CREATE)
        await site.ask("member.remove", REMOVE)
        yield
    assert cut.is_set()


@asynccontextmanager
async def nothing_after_the_ping(site: SiteUnderTest) -> AsyncIterator[None]:
    """Let the broker receive the ping that follows a result, and nothing after it."""
    async with site.worker():
        await site.ask("create", CREATE)
        site.on_entering("announce", lambda: setattr(site.proxy, "fault", UpToPing()))
        await site.ask("member.remove", REMOVE, SHORT)
        site.proxy.fault = None
        site.proxy.cut()
        yield


async def nothing(_: Chunk) -> bytes:
    """Drop everything."""
    return b""


@dataclass
class UpToPing:
    """Passes what a client sends up to its next ping, and drops the rest."""

    pinged: bool = False

    async def __call__(self, chunk: Chunk) -> bytes:
        if not chunk.from_client:
            return chunk.data
        if self.pinged:
            return b""
        before, ping, _ = chunk.data.partition(b"PING\r\n")
        self.pinged = bool(ping)
        return before + ping


_KEY_FRAME: Final = re.compile(rb"H?PUB (chat\.user\.\S+\.event\.room\.key) (?:\d+ )?(\d+)\r\n")


@dataclass
class DenyKeys:
    """Denies every key, as a broker does whose permissions allow none."""

    denied: list[bytes] = field(default_factory=list)

    async def __call__(self, chunk: Chunk) -> bytes:
        if chunk.from_client:
            return self._without_keys(chunk.data)
        if not chunk.data.startswith((b"PONG", b"MSG ", b"HMSG ")):
            return chunk.data  # it begins inside of a message
        errors = b"".join(b"-ERR 'Permissions Violation for Publish to \"%b\"'\r\n" % one for one in self.denied)
        self.denied.clear()
        return errors + chunk.data

    def _without_keys(self, data: bytes) -> bytes:
        kept, at = [], 0
        for frame in _KEY_FRAME.finditer(data):
            kept.append(data[at : frame.start()])
            self.denied.append(frame[1])
            at = frame.end() + int(frame[2]) + len(b"\r\n")
        return b"".join([*kept, data[at:]])


@asynccontextmanager
async def keys_denied(site: SiteUnderTest) -> AsyncIterator[None]:
    """Deny a new key to every member for a while."""
    site.rig.limit(denied_retry_s=0.2)
    async with site.worker():
        await site.ask("create", CREATE)
        site.proxy.fault = DenyKeys()
        request_id = await site.rig.publish("member.remove", REMOVE)
        await site.until_in_use(1)
        site.proxy.fault = None
        await site.wait_for_results(request_id)
        yield
