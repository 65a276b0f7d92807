"""Runs in which the connection to the broker fails at the right moment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.harness.proxy import Chunk
from tests.verification.mutations.site_under_test import CREATE, PATIENCE, REMOVE, SHORT, Town
from worker.pipeline.deliver import Publisher


@asynccontextmanager
async def keys_held_up(town: Town) -> AsyncIterator[None]:
    """Let a new key be lost on its way to the broker."""
    async with town.worker():
        await town.ask("create", CREATE)
        lost = asyncio.Event()

        async def lose(chunk: Chunk) -> bytes:
            if chunk.from_client and b"event.room.key" in chunk.data:
                lost.set()
            return b"" if chunk.from_client and lost.is_set() else chunk.data

        town.proxy.fault = lose
        asked = await town.made.publish("member.remove", REMOVE)
        await asyncio.wait_for(lost.wait(), PATIENCE)
        await town.until_in_use(1)
        town.proxy.fault = None
        town.proxy.cut()
        await town.answered(asked)
        yield


@asynccontextmanager
async def a_big_rooms_keys_held_up(town: Town) -> AsyncIterator[None]:
    """Let a big room's new key be lost on its way to the broker."""
    town.made.limit(large_room_members=2)
    async with keys_held_up(town):
        yield


@asynccontextmanager
async def cut_before_the_barrier(town: Town) -> AsyncIterator[None]:
    """Let the connection break, and be back, between a new key and its barrier."""
    fan_out, cut = Publisher.fan_out_keys, asyncio.Event()

    async def interrupted(self: Publisher, keys: Any, *args: Any) -> None:
        if 1 not in {key.version for key in keys.values()} or cut.is_set():
            await fan_out(self, keys, *args)
            return
        cut.set()
        epoch, town.proxy.fault = self.broker.connection_epoch, nothing
        await fan_out(self, keys, *args)
        broke = asyncio.Event()
        self.broker.on_break.add(broke.set)
        town.proxy.cut()
        town.proxy.fault = None
        if self.broker.connection_epoch == epoch:
            await asyncio.wait_for(broke.wait(), PATIENCE)
        await asyncio.wait_for(self.broker.until_connected(), PATIENCE)

    town.monkeypatch.setattr(Publisher, "fan_out_keys", interrupted)
    async with town.worker():
        await town.ask("create", CREATE)
        await town.ask("member.remove", REMOVE)
        yield
    assert cut.is_set()


@asynccontextmanager
async def nothing_after_the_ping(town: Town) -> AsyncIterator[None]:
    """Let the broker take a result's ping and nothing that the client sends after it."""
    async with town.worker():
        await town.ask("create", CREATE)
        town.on_entering("announce", lambda: setattr(town.proxy, "fault", UpToPing()))
        await town.ask("member.remove", REMOVE, SHORT)
        town.proxy.fault = None
        town.proxy.cut()
        yield


async def nothing(_: Chunk) -> bytes:
    """Let nothing pass."""
    return b""


@dataclass
class UpToPing:
    """Lets pass what a client sends up to its next ping, and drops the rest."""

    pinged: bool = False

    async def __call__(self, chunk: Chunk) -> bytes:
        if not chunk.from_client:
            return chunk.data
        if self.pinged:
            return b""
        before, ping, _ = chunk.data.partition(b"PING\r\n")
        self.pinged = bool(ping)
        return before + ping
