"""Key listeners: the iterators and callbacks that are notified of each new key."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from weakref import WeakSet

from roomkeys.client.keyring import HeldKey

log = logging.getLogger("roomkeys")

_Unread = asyncio.Queue[HeldKey | None]


class KeyListeners:
    """Hands each new key to iterators and callbacks, in order. An unread iterator keeps the last `max_unread` keys."""

    def __init__(self, max_unread: int) -> None:
        self._max_unread = max_unread
        # An iterator that its user has dropped leaves the set together with its queue.
        self._queues: WeakSet[_Unread] = WeakSet()
        self._callbacks: list[Callable[[HeldKey], None]] = []
        self._closed = False

    def iterate(self) -> AsyncGenerator[HeldKey, None]:
        """Return an iterator over the keys that arrive from now on; it ends when the client closes."""
        unread = _Unread()
        self._queues.add(unread)
        if self._closed:
            unread.put_nowait(None)
        return _read(unread)

    def add_callback(self, callback: Callable[[HeldKey], None]) -> Callable[[], None]:
        """Call `callback` with each key that arrives from now on; return a function that removes it."""
        self._callbacks.append(callback)

        def remove() -> None:
            with suppress(ValueError):  # it was removed before
                self._callbacks.remove(callback)

        return remove

    def notify(self, added: HeldKey) -> None:
        """Hand a key to all iterators and callbacks."""
        for unread in self._queues:
            if unread.qsize() >= self._max_unread:
                unread.get_nowait()
                log.warning("an iterator over changes is read too slowly: dropped its oldest key")
            unread.put_nowait(added)
        for callback in list(self._callbacks):
            try:
                callback(added)
            except Exception as error:  # noqa: BLE001 - the other callbacks must still be called
                # The error's text may quote the key, so only its type is logged.
                log.error("a callback failed: %s", type(error).__name__)  # noqa: TRY400

    def close(self) -> None:
        """End each iterator after the keys that it has queued."""
        self._closed = True
        for unread in self._queues:
            unread.put_nowait(None)


async def _read(unread: _Unread) -> AsyncGenerator[HeldKey, None]:
    while (added := await unread.get()) is not None:
        yield added
