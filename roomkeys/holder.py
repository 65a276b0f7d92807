"""Holding: what comes from anywhere goes into the key ring, stored first where the program has a store."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from roomkeys.keyring import HeldKey, KeyRing, Verdict

log = logging.getLogger("roomkeys")


class KeyStore(Protocol):
    """Where a program keeps keys over a restart; `save` returns once they are safe."""

    async def load(self) -> Iterable[HeldKey]:
        """Return what was saved."""

    async def save(self, keys: Sequence[HeldKey]) -> None:
        """Save keys; one that was saved before may come again, marked as in use."""


class Holder:
    """The ring, and what has to happen before and after a key goes into it.

    `arrived` is called for each key that changes the ring, with whether it was not held before.
    """

    def __init__(self, ring: KeyRing, store: KeyStore | None, arrived: Callable[[HeldKey, bool], None]) -> None:
        self.ring = ring
        self._store = store
        self._arrived = arrived
        self._holding = asyncio.Lock()

    async def load(self) -> None:
        """Hold what was stored."""
        if self._store is not None:
            for held in await self._store.load():
                self.ring.hold(held)

    async def hold(self, offered: Iterable[HeldKey]) -> bool:
        """Store and then hold what is new; False: the store failed, and nothing of it is held."""
        async with self._holding:
            fresh, refused = self.ring.sift(offered)
            for item in refused:
                log.warning("another key for room %s version %d: the first is kept", item.room_id, item.version)
            if not await self._saved(fresh):
                return False
            for item, verdict in [(item, self.ring.hold(item)) for item in fresh]:
                self._arrived(item, verdict is Verdict.NEW)
            return True

    async def _saved(self, fresh: Sequence[HeldKey]) -> bool:
        if self._store is None or not fresh:
            return True
        try:
            await self._store.save(fresh)
        except Exception as error:  # noqa: BLE001 - whatever it is: what is not stored is not held
            # Without its text, which may quote what it failed on.
            log.error("%d keys were not stored: %s", len(fresh), type(error).__name__)  # noqa: TRY400
            return False
        return True
