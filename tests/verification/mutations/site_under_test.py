"""What scenarios consist of: a site with a worker behind a proxy, events, waits, and crashes at a step."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from roomkeys import subjects
from tests.harness import events
from tests.harness.gates import crash_after_step
from tests.harness.proxy import Proxy
from tests.harness.site import Rig
from worker.telemetry import metrics

PEOPLE = ("aaron", "alice", "bob", "carol", "dave", "erin")
PATIENCE = 10.0
SHORT = 1.5
"""Seconds after which something that a correct worker never does counts as not done."""

CREATE = events.create("r1", "bob", "carol", "erin")
ADD = events.add("r1", "dave")
REMOVE = events.remove("r1", account="bob")
ROTATE = events.rotate("r1")


@dataclass(frozen=True, slots=True)
class SiteUnderTest:
    """A site, the proxy in front of its broker, and a worker behind the proxy."""

    rig: Rig
    monkeypatch: pytest.MonkeyPatch
    proxy: Proxy

    def worker(self, **changes: Any) -> AbstractAsyncContextManager[asyncio.Event]:
        """Run a worker with one partition behind the proxy."""
        return self.rig.worker(**{"nats_url": [self.proxy.url], "partitions": 1, **changes})

    async def ask(self, suffix: str, body: dict[str, Any], patience: float = PATIENCE) -> None:
        """Publish an event and wait for its result, which a broken worker may never send."""
        await self.wait_for_results(await self.rig.publish(suffix, body), patience=patience)

    async def wait_for_results(self, *request_ids: str, patience: float = PATIENCE) -> None:
        """Wait for results, or until the patience ends."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                for request_id in request_ids:
                    await self.rig.result(request_id)

    async def wait_for_notice(self, account: str) -> None:
        """Wait until an account has a notice."""
        await self.rig.until(lambda: self.rig.of(subjects.subscription_update(account)))

    async def until_in_use(self, version: int) -> None:
        """Wait a short while until a version is current; a correct worker first has to send it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SHORT), await self.rig.db.rooms.watch() as changes:
                while ((await self.rig.room("r1")).get("encKey") or {}).get("ver") != version:
                    await changes.next()

    async def briefly_until(self, condition: Callable[[], object]) -> None:
        """Wait a short while for a message that a correct worker does not send yet."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.rig.until(condition), SHORT)

    async def until_outbox_is_empty(self) -> None:
        """Wait until the outbox is empty."""
        outbox = self.rig.db.room_worker_outbox
        async with asyncio.timeout(PATIENCE), await outbox.watch() as changes:
            while await outbox.count_documents({}):
                await changes.next()

    def crash_after(self, name: str) -> None:
        """Make the worker crash once, when it leaves a step."""
        crash_after_step(self.monkeypatch, name)

    def on_entering(self, name: str, action: Callable[[], None]) -> None:
        """Do something once, when the worker enters a step."""
        step, done = metrics.step, list[str]()

        @contextmanager
        def watched(entered: str) -> Iterator[None]:
            if entered == name and not done:
                done.append(entered)
                action()
            with step(entered):
                yield

        self.monkeypatch.setattr(metrics, "step", watched)


Scenario = Callable[[SiteUnderTest], AbstractAsyncContextManager[object]]
