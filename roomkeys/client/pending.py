"""Pending keys: the keys that a client lacks and that callers wait for.

Each pending key has one entry, however many callers wait for it. Keys that become pending within one window are
requested together, and together again after a failure. An entry ends when the key arrives, in a reply or in any
other way, when the key service refuses it for good, or when the last caller stops waiting.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from roomkeys.backoff import Backoff
from roomkeys.client.errors import ClientClosed, KeyMissing, KeyTimeout
from roomkeys.keys import RoomKey
from roomkeys.messages.key_requests import MAX_ITEMS, Item

Fetch = Callable[[Sequence[Item]], Awaitable[Mapping[Item, RoomKey | KeyMissing]]]
"""Requests several keys and returns each of them, or the reason why it is missing."""


@dataclass(slots=True, eq=False)
class _Entry:
    item: Item
    outcome: asyncio.Future[RoomKey | KeyMissing]
    waiting: int = 0
    failures: int = 0
    last_error: KeyMissing | None = None
    retry: asyncio.TimerHandle | None = None


class PendingKeys:
    """The keys that callers wait for. `backoff` must have a fixed factor: what failed together retries together."""

    def __init__(self, backoff: Backoff, *, window_seconds: float, max_items: int = MAX_ITEMS) -> None:
        self._backoff = backoff
        self._window_seconds = window_seconds
        self._max_items = max_items
        self._entries: dict[Item, _Entry] = {}
        self._due: list[_Entry] = []
        self._any_due = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, item: Item, seconds: float) -> RoomKey:
        """Wait up to `seconds` for a key. Raises `KeyMissing` with the last known reason, a copy for each caller."""
        if self._closed:
            raise ClientClosed(item.room_id, item.version)
        entry = self._entries.get(item)
        if entry is None:
            entry = self._entries[item] = _Entry(item, asyncio.get_running_loop().create_future())
            self._make_due(entry)
        entry.waiting += 1
        try:
            await asyncio.wait({entry.outcome}, timeout=seconds)
        finally:
            entry.waiting -= 1
            if not entry.waiting:
                self._remove(entry)
        if entry.outcome.done():
            outcome = entry.outcome.result()
        else:
            outcome = entry.last_error or KeyTimeout(item.room_id, item.version)
        if isinstance(outcome, KeyMissing):
            raise outcome.copy()
        return outcome

    def resolve(self, item: Item, key: RoomKey) -> None:
        """Hand a key that has arrived to all who wait for it."""
        if (entry := self._entries.get(item)) is not None:
            self._finish(entry, key)

    async def serve(self, fetch: Fetch) -> None:
        """Fetch pending keys until cancelled. A new window does not wait for earlier requests."""
        async with asyncio.TaskGroup() as requests:
            while True:
                await self._any_due.wait()
                await asyncio.sleep(self._window_seconds)
                due = [entry for entry in self._due if self._is_pending(entry)]
                self._due.clear()
                self._any_due.clear()
                for start in range(0, len(due), self._max_items):
                    requests.create_task(self._request(fetch, due[start : start + self._max_items]))

    def close(self) -> None:
        """Raise `ClientClosed` in all who wait, and in all who call `get` from now on."""
        self._closed = True
        for entry in list(self._entries.values()):
            self._finish(entry, ClientClosed(entry.item.room_id, entry.item.version))

    async def _request(self, fetch: Fetch, entries: Sequence[_Entry]) -> None:
        outcomes = await fetch([entry.item for entry in entries])
        for entry in filter(self._is_pending, entries):
            outcome = outcomes[entry.item]
            if isinstance(outcome, KeyMissing) and outcome.retryable:
                entry.last_error = outcome
                entry.failures += 1
                pause = self._backoff.pause(entry.failures)
                entry.retry = asyncio.get_running_loop().call_later(pause, self._make_due, entry)
            else:
                self._finish(entry, outcome)

    def _make_due(self, entry: _Entry) -> None:
        self._due.append(entry)
        self._any_due.set()

    def _is_pending(self, entry: _Entry) -> bool:
        """Tell whether callers still wait for this entry; a later entry may have replaced it."""
        return self._entries.get(entry.item) is entry

    def _finish(self, entry: _Entry, outcome: RoomKey | KeyMissing) -> None:
        self._remove(entry)
        entry.outcome.set_result(outcome)

    def _remove(self, entry: _Entry) -> None:
        if self._is_pending(entry):
            del self._entries[entry.item]
        if entry.retry is not None:
            entry.retry.cancel()
