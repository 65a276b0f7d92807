"""Searches: one for each key that is missing, however many wait for it.

A search asks, and asks again while that may help; a key that comes by any other way ends it. Everybody waits
until a deadline of their own, and a search that nobody waits for any more is given up.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final, Generic, TypeVar

from roomkeys.client.errors import ClientClosed, KeyMissing, KeyTimeout
from roomkeys.client.resync import Backoff
from roomkeys.keys import RoomKey
from roomkeys.messages.key_requests import MAX_ITEMS, Item


@dataclass(slots=True, eq=False)
class _Search:
    found: asyncio.Future[RoomKey | KeyMissing]
    task: asyncio.Task[None] | None = None
    waiting: int = 0
    why: KeyMissing | None = None


class Searches:
    """The keys that are missing now; `ask` returns one or says why not, once."""

    def __init__(
        self, ask: Callable[[Item], Awaitable[RoomKey]], pauses: Backoff, tasks: asyncio.TaskGroup
    ) -> None:
        self._ask = ask
        self._pauses = pauses
        self._tasks = tasks
        self._closed = False
        self._searches: dict[Item, _Search] = {}

    def __len__(self) -> int:
        return len(self._searches)

    async def find(self, item: Item, seconds: float) -> RoomKey:
        """Return the key; `KeyMissing` says why there is none, at the latest after so many seconds."""
        if self._closed:
            raise ClientClosed(item.room_id, item.version)
        search = self._searches.get(item) or self._begin(item)
        search.waiting += 1
        try:
            async with asyncio.timeout(seconds):
                found = await asyncio.shield(search.found)
        except TimeoutError:
            found = search.why or KeyTimeout(item.room_id, item.version)
        finally:
            search.waiting -= 1
            if not search.waiting:
                self._end(item, search)
        if isinstance(found, KeyMissing):
            raise found.copy()
        return found

    def arrived(self, item: Item, key: RoomKey) -> None:
        """End the search for a key that has come."""
        self._found(item, key)

    def close(self) -> None:
        """Tell everybody who waits, and who comes from now on, that the client has ended."""
        self._closed = True
        for item in list(self._searches):
            self._found(item, ClientClosed(item.room_id, item.version))

    def _begin(self, item: Item) -> _Search:
        search = self._searches[item] = _Search(asyncio.get_running_loop().create_future())
        search.task = self._tasks.create_task(self._seek(item, search))
        return search

    async def _seek(self, item: Item, search: _Search) -> None:
        for attempt in count(1):
            try:
                self._found(item, await self._ask(item))
            except KeyMissing as why:
                search.why = why
                if not why.retryable:
                    self._found(item, why)
            if self._searches.get(item) is not search:
                return
            await asyncio.sleep(self._pauses.after(attempt))

    def _found(self, item: Item, found: RoomKey | KeyMissing) -> None:
        """Let go of a search: whoever looks for the key from now on begins another."""
        search = self._searches.pop(item, None)
        if search is not None:
            search.found.set_result(found)

    def _end(self, item: Item, search: _Search) -> None:
        if self._searches.get(item) is search:
            del self._searches[item]
        if search.task is not None:
            search.task.cancel()


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
