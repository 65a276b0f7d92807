"""A window: what is asked for within a few milliseconds is asked for together.

Each item once, however many ask for it, and at most so many items at a time. A request that fails fails those
who wait for its items, and nobody else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from roomkeys.requests import MAX_ITEMS

WINDOW_SECONDS: Final = 0.010

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Window(Generic[K, V]):
    """Collects items and hands them to `send`, which returns an answer or an error for each."""

    def __init__(
        self,
        send: Callable[[Sequence[K]], Awaitable[Mapping[K, V | Exception]]],
        tasks: asyncio.TaskGroup,
        *,
        seconds: float = WINDOW_SECONDS,
        most: int = MAX_ITEMS,
    ) -> None:
        self._send = send
        self._tasks = tasks
        self._seconds = seconds
        self._most = most
        self._waiting: dict[K, asyncio.Future[V]] = {}

    async def ask(self, item: K) -> V:
        """Ask for an item with whatever else is asked for now, and return its answer or raise its error."""
        if not self._waiting:
            self._tasks.create_task(self._collect())
        future = self._waiting.get(item)
        if future is None:
            future = self._waiting[item] = asyncio.get_running_loop().create_future()
            future.add_done_callback(_seen)
        return await asyncio.shield(future)  # others may wait for it too

    async def _collect(self) -> None:
        await asyncio.sleep(self._seconds)
        waiting, self._waiting = self._waiting, {}
        items = list(waiting)
        for start in range(0, len(items), self._most):
            chunk = {item: waiting[item] for item in items[start : start + self._most]}
            self._tasks.create_task(self._answer(chunk))

    async def _answer(self, chunk: Mapping[K, asyncio.Future[V]]) -> None:
        try:
            answers = await self._send(list(chunk))
        except Exception as error:  # noqa: BLE001 - it is for those who wait, whatever it is
            answers = dict.fromkeys(chunk, error)
        for item, future in chunk.items():
            answer = answers.get(item, LookupError("the request was answered without this item"))
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)


def _seen(future: asyncio.Future[V]) -> None:
    """Take note of an error that nobody waits for any more."""
    future.exception()
