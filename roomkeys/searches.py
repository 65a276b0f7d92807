"""Searches: one for each key that is missing, however many wait for it.

A search asks, and asks again while that may help; a key that comes by any other way ends it. Everybody waits
until a deadline of their own, and a search that nobody waits for any more is given up.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count

from roomkeys.keys import RoomKey
from roomkeys.missing import Ended, KeyMissing, NotInTime
from roomkeys.pauses import Pauses
from roomkeys.requests import Item


@dataclass(slots=True, eq=False)
class _Search:
    found: asyncio.Future[RoomKey | KeyMissing]
    task: asyncio.Task[None] | None = None
    waiting: int = 0
    why: KeyMissing | None = None


class Searches:
    """The keys that are missing now; `ask` returns one or says why not, once."""

    def __init__(
        self, ask: Callable[[Item], Awaitable[RoomKey]], pauses: Pauses, tasks: asyncio.TaskGroup
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
            raise Ended(item.room_id, item.version)
        search = self._searches.get(item) or self._begin(item)
        search.waiting += 1
        try:
            async with asyncio.timeout(seconds):
                found = await asyncio.shield(search.found)
        except TimeoutError:
            found = search.why or NotInTime(item.room_id, item.version)
        finally:
            search.waiting -= 1
            if not search.waiting:
                self._end(item, search)
        if isinstance(found, KeyMissing):
            raise found.anew()
        return found

    def arrived(self, item: Item, key: RoomKey) -> None:
        """End the search for a key that has come."""
        self._found(item, key)

    def close(self) -> None:
        """Tell everybody who waits, and who comes from now on, that the client has ended."""
        self._closed = True
        for item in list(self._searches):
            self._found(item, Ended(item.room_id, item.version))

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
                if not why.passing:
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
