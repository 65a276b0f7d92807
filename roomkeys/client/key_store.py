"""The stored key ring: saves each new key to the program's own store before the client uses it."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Protocol

from roomkeys.client.keyring import HeldKey, KeyRing, Verdict
from roomkeys.client.listeners import KeyListeners
from roomkeys.client.pending import PendingKeys
from roomkeys.messages.key_requests import Item

log = logging.getLogger("roomkeys")


class KeyStore(Protocol):
    """Where a program keeps its keys across restarts."""

    async def load(self) -> Iterable[HeldKey]:
        """Return all keys that were saved."""

    async def save(self, keys: Sequence[HeldKey]) -> None:
        """Save keys, and return once they are safe. A saved key may come again, then marked as in use."""


class StoredKeyRing:
    """The key ring of a client, and the one way into it, whichever way a key arrives.

    A new key is first saved, then added to the ring, then handed to the callers who wait for it, and last to the
    listeners.
    """

    def __init__(
        self, ring: KeyRing, store: KeyStore | None, pending: PendingKeys, listeners: KeyListeners
    ) -> None:
        self.ring = ring
        self._store = store
        self._pending = pending
        self._listeners = listeners
        self._adding = asyncio.Lock()

    async def load(self) -> None:
        """Add the keys that were saved. Listeners are not notified of them."""
        if self._store is not None:
            for saved in await self._store.load():
                self.ring.add(saved)

    async def add(self, offered: Iterable[HeldKey]) -> bool:
        """Save and add the keys that are new; return False if saving failed and none was added."""
        async with self._adding:
            fresh, refused = self.ring.select(offered)
            for item in refused:
                log.warning(
                    "received another key for room %s version %d: keeping the first", item.room_id, item.version
                )
            if not await self._save(fresh):
                return False
            for item, verdict in [(item, self.ring.add(item)) for item in fresh]:
                self._publish(item, is_new=verdict is Verdict.NEW)
            return True

    async def _save(self, fresh: Sequence[HeldKey]) -> bool:
        if self._store is None or not fresh:
            return True
        try:
            await self._store.save(fresh)
        except Exception as error:  # noqa: BLE001 - whatever the store raises, the keys are not safe
            # The error's text may quote the keys, so only its type is logged.
            log.error("could not store %d keys: %s", len(fresh), type(error).__name__)  # noqa: TRY400
            return False
        return True

    def _publish(self, added: HeldKey, *, is_new: bool) -> None:
        """Hand a key to those who wait for it. It may also make a key of the ring the one in use."""
        self._pending.resolve(Item(added.room_id, added.version), added.key)
        in_use = self.ring.key(added.room_id)
        if in_use is not None:
            self._pending.resolve(Item(added.room_id), in_use)
        if is_new:
            self._listeners.notify(added)
