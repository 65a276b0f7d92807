"""The runs in which mutations matter: a room, some events, and a fault at the right moment.

A worker that is not broken comes through each of them, and the judge finds nothing.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from roomkeys import subjects
from tests.harness.proxy import Proxy
from tests.harness.site import Rig
from worker.telemetry import metrics

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
