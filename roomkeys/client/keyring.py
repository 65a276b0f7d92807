"""The key ring: the keys that an account holds, by room and version, and how they are saved.

The result does not depend on the order, the number or the source of the keys that are added:

- The bytes of a version are never replaced.
- A room keeps its highest versions.
- The key in use is the highest of them, but only after some key of the room was announced as in use. Before that,
  all of them may be older keys that were requested. The same holds after the account has left the room.
- A requested key that is higher than every announced one is in use, or was: the key service hands out no other.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final, Protocol

from roomkeys.client.membership import Counts
from roomkeys.keys import RoomKey
from roomkeys.messages.key_requests import Item

log = logging.getLogger("roomkeys")

VERSIONS: Final = 64
"""How many versions of a room's key a ring keeps by default."""


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key of a room. `in_use`: it was announced as the key to seal with, not requested as an older one."""

    room_id: str
    key: RoomKey
    in_use: bool = True

    @property
    def version(self) -> int:
        """Return the key's version."""
        return self.key.version


class Verdict(Enum):
    """What a ring does with a key that it is offered."""

    NEW = auto()
    """The ring adds it."""
    NOW_IN_USE = auto()
    """The ring adds no key, but learns that the room's highest key is in use."""
    CONFLICTING = auto()
    """The ring refuses it: it has other bytes for this version."""
    NO_CHANGE = auto()
    """The ring has it, or does not keep it: the room has as many higher versions as it may have."""


class KeyRing:
    """Keys by room and version. The repr shows how many, and no bytes."""

    def __init__(self, versions: int = VERSIONS) -> None:
        if versions < 1:
            raise ValueError("a key ring must keep at least one version of a room's key")
        self._versions = versions
        self._rooms: dict[str, dict[int, RoomKey]] = {}
        self._announced: set[str] = set()

    def __repr__(self) -> str:
        return f"KeyRing({len(self._rooms)} rooms, {len(self)} keys)"

    def __len__(self) -> int:
        return sum(map(len, self._rooms.values()))

    def key(self, room_id: str, version: int | None = None) -> RoomKey | None:
        """Return the key of a version, or without a version the key in use; None if the ring does not have it."""
        known = self._rooms.get(room_id, {})
        if version is None:
            return known[max(known)] if room_id in self._announced else None
        return known.get(version)

    def versions(self, room_id: str) -> list[int]:
        """Return the versions of a room's key in the ring, in ascending order."""
        return sorted(self._rooms.get(room_id, {}))

    def in_use(self) -> dict[str, int]:
        """Return the version in use by room: what a `keys.sync` request sends as `have`."""
        return {room_id: max(self._rooms[room_id]) for room_id in self._announced}

    def verdict(self, offered: HeldKey) -> Verdict:
        """Return what `add` would do with a key."""
        known = self._rooms.get(offered.room_id, {})
        same = known.get(offered.version)
        if same is not None and same.secret != offered.key.secret:
            return Verdict.CONFLICTING
        if same is None and (len(known) < self._versions or offered.version > min(known)):
            return Verdict.NEW
        if offered.in_use and offered.room_id not in self._announced:
            return Verdict.NOW_IN_USE
        return Verdict.NO_CHANGE

    def add(self, offered: HeldKey) -> Verdict:
        """Add a key, and return what was done with it."""
        verdict = self.verdict(offered)
        if verdict is Verdict.NEW:
            known = self._rooms.setdefault(offered.room_id, {})
            known[offered.version] = offered.key
            if len(known) > self._versions:
                del known[min(known)]
        if verdict is not Verdict.CONFLICTING and offered.in_use:
            self._announced.add(offered.room_id)
        return verdict

    def retract(self, room_id: str) -> None:
        """Keep a room's keys, but do not know which is in use until one is announced again."""
        self._announced.discard(room_id)

    def select(self, offered: Iterable[HeldKey]) -> tuple[list[HeldKey], list[HeldKey]]:
        """Return the keys that would change the ring, and those that it would refuse as conflicting."""
        fresh: dict[tuple[str, int], HeldKey] = {}
        refused: list[HeldKey] = []
        for item in offered:
            name = (item.room_id, item.version)
            verdict, earlier = self.verdict(item), fresh.get(name)
            if verdict is Verdict.CONFLICTING or (earlier and earlier.key.secret != item.key.secret):
                refused.append(item)
            elif verdict in {Verdict.NEW, Verdict.NOW_IN_USE} and (earlier is None or item.in_use):
                fresh[name] = item
        return list(fresh.values()), refused


Resolve = Callable[[Item, RoomKey], None]
Notify = Callable[[HeldKey], None]


class KeyStore(Protocol):
    """Where a program keeps its keys across restarts."""

    async def load(self) -> Iterable[HeldKey]:
        """Return all keys that were saved."""

    async def save(self, keys: Sequence[HeldKey]) -> None:
        """Save keys, and return once they are safe. A saved key may come again, then marked as in use."""


class StoredKeyRing:
    """The key ring of a client, and the one way into it, whichever way a key arrives.

    A new key is first saved, then added to the ring, then handed to the callers who wait for it (`resolve`), and
    last to the listeners (`notify`).
    """

    def __init__(self, ring: KeyRing, store: KeyStore | None, resolve: Resolve, notify: Notify) -> None:
        self.ring = ring
        self._store = store
        self._resolve = resolve
        self._notify = notify
        self._adding = asyncio.Lock()

    async def load(self) -> None:
        """Add the keys that were saved. Listeners are not notified of them."""
        if self._store is not None:
            for saved in await self._store.load():
                self.ring.add(saved)

    async def add(self, offered: Iterable[HeldKey], counts: Counts = lambda _: True) -> bool:
        """Save and add the keys that are new; return False if saving failed and none was added.

        A key in use is added as an older one unless it `counts`: before it is saved, and also after.
        """
        async with self._adding:
            fresh, refused = self.ring.select(_as_counted(offered, counts))
            for item in refused:
                text = "received another key for room %s version %d: keeping the first"
                log.warning(text, item.room_id, item.version)
            if not await self._save(fresh):
                return False
            for item, verdict in [(item, self.ring.add(item)) for item in _as_counted(fresh, counts)]:
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
        self._resolve(Item(added.room_id, added.version), added.key)
        in_use = self.ring.key(added.room_id)
        if in_use is not None:
            self._resolve(Item(added.room_id), in_use)
        if is_new:
            self._notify(added)


def _as_counted(offered: Iterable[HeldKey], counts: Counts) -> Iterator[HeldKey]:
    for item in offered:
        yield replace(item, in_use=False) if item.in_use and not counts(item.room_id) else item
