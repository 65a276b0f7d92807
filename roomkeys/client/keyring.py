"""The key ring: the keys that an account holds, by room and version.

The same keys in any order, any number of times and from any source make the same ring: a version's bytes are
never replaced, and of a room the highest versions are kept. The key in use is the highest of them, once any key of
the room was announced as that: before, they may all be old ones that were asked for. One that was asked for and
is higher than those announced is in use, or was: no other is ever given.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Final, Protocol

from roomkeys.keys import RoomKey

VERSIONS: Final = 64
"""How many versions of a room's key are kept, unless the user of a ring says otherwise."""

_NONE: Final[Mapping[int, RoomKey]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key of a room; `in_use`: it came as the key to seal with now, not as an older one that was asked for."""

    room_id: str
    key: RoomKey
    in_use: bool = True

    @property
    def version(self) -> int:
        """Return the key's version."""
        return self.key.version


class Verdict(Enum):
    """What a ring makes of a key that it is offered."""

    NEW = auto()
    """It is not held yet."""
    IN_USE = auto()
    """It would not be a new one, but no key of the room was announced as in use before."""
    KNOWN = auto()
    """It is held; it came again, or late."""
    ANOTHER = auto()
    """A key with other bytes is held for its version: it is refused."""
    TOO_OLD = auto()
    """The room has as many later ones as are kept."""


class KeyRing:
    """Keys by room and version; its repr shows how many."""

    def __init__(self, versions: int = VERSIONS) -> None:
        if versions < 1:
            raise ValueError("a ring keeps at least one version of a room's key")
        self._versions = versions
        self._rooms: dict[str, dict[int, RoomKey]] = {}
        self._announced: set[str] = set()

    def __repr__(self) -> str:
        return f"KeyRing({len(self._rooms)} rooms, {len(self)} keys)"

    def __len__(self) -> int:
        return sum(map(len, self._rooms.values()))

    def key(self, room_id: str, version: int | None = None) -> RoomKey | None:
        """Return the key of a version, or the one in use; None: it is not held."""
        held = self._of(room_id)
        if version is None:
            return held[max(held)] if room_id in self._announced else None
        return held.get(version)

    def versions(self, room_id: str) -> list[int]:
        """Return which versions of a room's key are held, in order."""
        return sorted(self._of(room_id))

    def in_use(self) -> dict[str, int]:
        """Return which version is in use, by room: what `keys.sync` is told to be held already."""
        return {room_id: max(self._rooms[room_id]) for room_id in self._announced}

    def verdict(self, offered: HeldKey) -> Verdict:
        """Tell what the ring would make of a key."""
        known = self._of(offered.room_id)
        held = known.get(offered.version)
        if held is not None and held.secret != offered.key.secret:
            return Verdict.ANOTHER
        if held is None and (len(known) < self._versions or offered.version > min(known)):
            return Verdict.NEW
        if offered.in_use and offered.room_id not in self._announced:
            return Verdict.IN_USE
        return Verdict.TOO_OLD if held is None else Verdict.KNOWN

    def hold(self, offered: HeldKey) -> Verdict:
        """Take a key in and tell what became of it."""
        verdict = self.verdict(offered)
        if verdict is Verdict.NEW:
            known = self._rooms.setdefault(offered.room_id, {})
            known[offered.version] = offered.key
            if len(known) > self._versions:
                del known[min(known)]
        if verdict is not Verdict.ANOTHER and offered.in_use:
            self._announced.add(offered.room_id)
        return verdict

    def sift(self, offered: Iterable[HeldKey]) -> tuple[list[HeldKey], list[HeldKey]]:
        """Return which of the keys would change the ring, and which it would refuse for their bytes."""
        fresh: dict[tuple[str, int], HeldKey] = {}
        refused: list[HeldKey] = []
        for item in offered:
            place = (item.room_id, item.version)
            verdict, earlier = self.verdict(item), fresh.get(place)
            if verdict is Verdict.ANOTHER or (earlier and earlier.key.secret != item.key.secret):
                refused.append(item)
            elif verdict in {Verdict.NEW, Verdict.IN_USE} and (earlier is None or item.in_use):
                fresh[place] = item
        return list(fresh.values()), refused

    def _of(self, room_id: str) -> Mapping[int, RoomKey]:
        return self._rooms.get(room_id, _NONE)


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
