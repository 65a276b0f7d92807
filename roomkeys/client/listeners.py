"""Who wants to know of every key that is newly held: iterators and callbacks."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Final
from weakref import WeakSet

from roomkeys.client.keyring import HeldKey

MOST_UNREAD: Final = 10_000
"""Keys that wait for one iterator; beyond it the oldest are left out."""

_Unread = asyncio.Queue[HeldKey | None]
_log = logging.getLogger("roomkeys")


class KeyListeners:
    """Tells everybody who follows or is called of each key, in order."""

    def __init__(self, most_unread: int = MOST_UNREAD) -> None:
        self._most_unread = most_unread
        self._followers: WeakSet[_Unread] = WeakSet()
        self._callbacks: list[Callable[[HeldKey], None]] = []
        self._closed = False

    def follow(self) -> AsyncGenerator[HeldKey, None]:
        """Return an iterator over every key from now on; it ends with the client."""
        unread = _Unread()
        self._followers.add(unread)
        if self._closed:
            unread.put_nowait(None)
        return _read(unread)

    def call(self, callback: Callable[[HeldKey], None]) -> Callable[[], None]:
        """Call back for every key from now on; whoever calls what this returns is called no more."""
        self._callbacks.append(callback)

        def end() -> None:
            with suppress(ValueError):  # it has been ended already
                self._callbacks.remove(callback)

        return end

    def tell(self, held: HeldKey) -> None:
        """Tell everybody of a key."""
        for unread in self._followers:
            if unread.qsize() >= self._most_unread:
                unread.get_nowait()
                _log.warning("an iterator over changes reads too slowly: its oldest key is left out")
            unread.put_nowait(held)
        for callback in list(self._callbacks):
            try:
                callback(held)
            except Exception as error:  # noqa: BLE001 - one callback's trouble is not the others'
                _log.error("a callback failed: %s", type(error).__name__)

    def close(self) -> None:
        """End all iterators once they have been read."""
        self._closed = True
        for unread in self._followers:
            unread.put_nowait(None)


async def _read(unread: _Unread) -> AsyncGenerator[HeldKey, None]:
    while (held := await unread.get()) is not None:
        yield held
