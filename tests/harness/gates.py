"""Where tests hold the worker back, crash it or stop it: at a page of members, at a step, or at a call."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from itertools import count
from types import ModuleType
from typing import Any

import pytest

from worker.pipeline.rollouts import passes
from worker.telemetry import metrics

PATIENCE = 30.0
"""Seconds after which a page that the worker has not reached counts as never reached."""


class PageGate:
    """Holds every pass over a room's members back before its n-th page, until the test releases it.

    The gate watches the pages that `module` reads, by default those of large rooms. It stops the passes over
    `room_id`, or over every room. Several gates may watch one module.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        room_id: str | None = None,
        *,
        before_page: int = 2,
        module: ModuleType = passes,
    ) -> None:
        self.reached, self.released, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._room_id, self._before_page = room_id, before_page
        self._read: Callable[..., AsyncIterator[Any]] = module.pages
        monkeypatch.setattr(module, "pages", self._pages)

    async def until_reached(self) -> None:
        """Wait until the gate holds a pass back."""
        await asyncio.wait_for(self.reached.wait(), PATIENCE)

    async def until_ended(self) -> None:
        """Wait until a pass over the gate's room has ended, complete or not."""
        await asyncio.wait_for(self.ended.wait(), PATIENCE)

    async def _pages(self, database: Any, lease: Any, room_ids: Collection[str], **options: Any) -> AsyncIterator[Any]:
        pages = self._read(database, lease, room_ids, **options)
        gated = self._room_id is None or self._room_id in room_ids
        try:
            for number in count(1):
                if gated and number == self._before_page:
                    self.reached.set()
                    await self.released.wait()
                page = await anext(pages, None)
                if page is None:
                    return
                yield page
        finally:
            if gated:
                self.ended.set()


class Crash(Exception):
    """Stands for the end of the process: nothing in the worker handles it."""


def watch_steps(monkeypatch: pytest.MonkeyPatch, left: Callable[[str], None]) -> None:
    """Call `left` with the name of every step that the worker leaves from now on."""
    step = metrics.step

    @contextmanager
    def watched(name: str) -> Iterator[None]:
        with step(name):
            yield
        left(name)

    monkeypatch.setattr(metrics, "step", watched)


def crash_after_step(monkeypatch: pytest.MonkeyPatch, *names: str, at: int = 1) -> list[str]:
    """Make the worker crash once, as it leaves the `at`-th of the steps named; return those that it has left.

    With `at=0` the worker does not crash.
    """
    steps: list[str] = []

    def crash(name: str) -> None:
        if name in names:
            steps.append(name)
            if len(steps) == at:
                raise Crash(name)

    watch_steps(monkeypatch, crash)
    return steps


def stop_after_step(monkeypatch: pytest.MonkeyPatch, name: str, stop: asyncio.Event) -> None:
    """Stop a worker as it leaves a step."""
    watch_steps(monkeypatch, lambda left: stop.set() if left == name else None)


def crash_at_call(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, *, after: bool) -> list[str]:
    """Make the next call of a method crash, before it begins or once it is done; return the calls that crashed."""
    method: Callable[..., Awaitable[Any]] = getattr(owner, name)
    crashed: list[str] = []

    async def once(*args: Any, **kwargs: Any) -> Any:
        if crashed:
            return await method(*args, **kwargs)
        crashed.append(name)
        if after:
            await method(*args, **kwargs)
        raise Crash(name)

    monkeypatch.setattr(owner, name, once)
    return crashed
