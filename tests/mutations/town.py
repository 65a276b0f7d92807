"""The runs in which mutations matter: a room, some events, and a fault at the right moment.

A worker that is not broken comes through each of them, and the judge finds nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from roomkeys import subjects
from store import apply, replicas, survivors
from tests.proxy import Proxy
from tests.rig import Rig
from worker import metrics
from worker.courier import Courier

PEOPLE = ("aaron", "alice", "bob", "carol", "dave", "erin")
PATIENCE = 10.0
SHORT = 1.5
"""Seconds until something that a right worker never does is taken as not done."""

CREATE = {"roomId": "r1", "name": "general", "users": ["bob", "carol", "erin"], "requesterAccount": "alice"}
ADD = {"roomId": "r1", "requesterAccount": "alice", "users": ["dave"]}
REMOVE = {"roomId": "r1", "requester": "alice", "account": "bob"}
ROTATE = {"roomId": "r1", "requester": "alice"}


class Crash(Exception):
    """Stands for the end of the process; nothing in the worker knows it."""


@dataclass(frozen=True, slots=True)
class Town:
    """A site, the proxy before its broker, and a worker behind it."""

    made: Rig
    monkeypatch: pytest.MonkeyPatch
    proxy: Proxy

    def worker(self, **changes: Any) -> AbstractAsyncContextManager[asyncio.Event]:
        """Run a worker, with one partition and behind the proxy."""
        return self.made.worker(**{"nats_url": [self.proxy.url], "partitions": 1, **changes})

    async def ask(self, suffix: str, body: dict[str, Any], patience: float = PATIENCE) -> None:
        """Publish an event and wait for its result, which a broken worker may never give."""
        await self.answered(await self.made.publish(suffix, body), patience=patience)

    async def answered(self, *request_ids: str, patience: float = PATIENCE) -> None:
        """Wait for results."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                for request_id in request_ids:
                    await self.made.result(request_id)

    async def told(self, account: str) -> None:
        """Wait until somebody has been told of a membership."""
        await self.made.until(lambda: self.made.of(subjects.subscription_update(account)))

    async def until_in_use(self, version: int) -> None:
        """Wait a short while for a key to be in use, which a right worker sees to only once it was sent."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SHORT), await self.made.db.rooms.watch() as changes:
                while ((await self.made.room("r1")).get("encKey") or {}).get("ver") != version:
                    await changes.next()

    async def briefly_until(self, look: Callable[[], object]) -> None:
        """Wait a short while for a message that a right worker does not send yet."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.made.until(look), SHORT)

    async def until_nothing_is_owed(self) -> None:
        """Wait until the outbox is empty."""
        owed = self.made.db.room_worker_outbox
        async with asyncio.timeout(PATIENCE), await owed.watch() as changes:
            while await owed.count_documents({}):
                await changes.next()

    def crash_after(self, name: str) -> None:
        """Let the worker crash once, as it leaves a step."""
        step, crashed = metrics.step, list[str]()

        @contextmanager
        def crashing(entered: str) -> Iterator[None]:
            with step(entered):
                yield
            if entered == name and not crashed:
                crashed.append(entered)
                raise Crash(entered)

        self.monkeypatch.setattr(metrics, "step", crashing)

    def on_entering(self, name: str, act: Callable[[], None]) -> None:
        """Do something as the worker enters a step for the next time."""
        step, done = metrics.step, list[str]()

        @contextmanager
        def watched(entered: str) -> Iterator[None]:
            if entered == name and not done:
                done.append(entered)
                act()
            with step(entered):
                yield

        self.monkeypatch.setattr(metrics, "step", watched)


Scenario = Callable[[Town], AbstractAsyncContextManager[object]]


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
    town.monkeypatch.setattr("store.survivors.PAGE", 2)
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
async def keys_held_up(town: Town) -> AsyncIterator[None]:
    """Let a new key be lost on its way to the broker."""
    async with town.worker():
        await town.ask("create", CREATE)
        held = asyncio.Event()

        def hold(data: bytes) -> bytes:
            if b"event.room.key" in data:
                held.set()
            return b"" if held.is_set() else data

        town.proxy.filter = hold
        asked = await town.made.publish("member.remove", REMOVE)
        await asyncio.wait_for(held.wait(), PATIENCE)
        await town.until_in_use(1)
        town.proxy.filter = None
        town.proxy.cut()
        await town.answered(asked)
        yield


@asynccontextmanager
async def cut_before_the_barrier(town: Town) -> AsyncIterator[None]:
    """Let the connection break, and be back, between a new key and its barrier."""
    fan_out, cut = Courier.fan_out, asyncio.Event()

    async def interrupted(self: Courier, keys: Any, *args: Any) -> None:
        if 1 not in {key.version for key in keys.values()} or cut.is_set():
            await fan_out(self, keys, *args)
            return
        cut.set()
        mark, town.proxy.filter = self.broker.breaks, lambda _: b""
        await fan_out(self, keys, *args)
        broke = asyncio.Event()
        self.broker.on_break.add(broke.set)
        town.proxy.cut()
        town.proxy.filter = None
        if self.broker.breaks == mark:
            await asyncio.wait_for(broke.wait(), PATIENCE)
        await asyncio.wait_for(self.broker.until_connected(), PATIENCE)

    town.monkeypatch.setattr(Courier, "fan_out", interrupted)
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
        town.on_entering("announce", lambda: setattr(town.proxy, "filter", UpToPing(town.proxy)))
        await town.ask("member.remove", REMOVE, SHORT)
        town.proxy.filter = None
        town.proxy.cut()
        yield


class UpToPing:
    """Lets pass what comes up to the next ping, and drops the rest."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.pinged = False

    def __call__(self, data: bytes) -> bytes:
        if self.pinged:
            return b""
        before, ping, _ = data.partition(b"PING\r\n")
        self.pinged = bool(ping)
        return before + ping


@asynccontextmanager
async def a_zombie(town: Town) -> AsyncIterator[None]:
    """Let another replica take over from one that is taken for dead, and that then goes on where it was."""
    held, released, zombies = asyncio.Event(), asyncio.Event(), list[str]()
    bulk, beat = apply._bulk, replicas.beat

    async def hold(database: Any, lease: Any, collection: str, writes: Any) -> None:
        if armed.is_set() and not held.is_set():
            zombies.append(lease.owner)
            held.set()
            await asyncio.wait_for(released.wait(), PATIENCE)
        await bulk(database, lease, collection, writes)

    async def die(database: Any, site: str, owner: str) -> None:
        if owner not in zombies:
            await beat(database, site, owner)

    armed = asyncio.Event()
    town.monkeypatch.setattr("worker.replica.LEASE_MS", 1_500)
    town.monkeypatch.setattr("store.apply._bulk", hold)
    town.monkeypatch.setattr("store.replicas.beat", die)
    async with town.worker():
        await town.ask("create", CREATE)
        armed.set()
        asked = await town.made.publish("key.rotate", ROTATE)
        await asyncio.wait_for(held.wait(), PATIENCE)
        async with town.worker():
            await town.answered(asked)
            await town.until_nothing_is_owed()
            released.set()
            await town.ask("key.rotate", ROTATE)
            yield


class HeldPass:
    """Holds the pass of a big room back, once armed, when it has come to the first two members."""

    def __init__(self, town: Town) -> None:
        self.armed, self.reached, self.released = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._pages = survivors.pages
        town.monkeypatch.setattr("worker.loop.BIG_ROOM", 2)
        town.monkeypatch.setattr("store.survivors.PAGE", 2)
        town.monkeypatch.setattr("worker.drainers.pages", self.pages)

    async def pages(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async for page in self._pages(*args, **kwargs):
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
    held, tell = HeldPass(town), Courier.tell

    async def late(self: Courier, owed: Any) -> None:
        if held.reached.is_set() and not held.released.is_set():
            held.released.set()
            await town.briefly_until(lambda: town.made.keys("dave"))
        await tell(self, owed)

    town.monkeypatch.setattr(Courier, "tell", late)
    async with joining(town, held, "dave"):
        yield


SCENARIOS: tuple[Scenario, ...] = (
    a_day,
    one_batch,
    several_pages,
    crash_after_applying,
    crash_after_delivering,
    keys_held_up,
    cut_before_the_barrier,
    nothing_after_the_ping,
    a_zombie,
    a_newcomer_behind_the_pass,
    a_newcomer_before_the_pass,
)
