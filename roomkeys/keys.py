"""Room keys: their bytes, their versions, and how a rotation changes them.

Each version is used once. `high`, the highest version that a room ever used or promised, only rises, even after
the room has lost its `encKey`. A staged key becomes current only after the broker has confirmed it for every
member. (docs/design.md, invariants 3 and 4)
"""

from dataclasses import dataclass, field, replace
from secrets import token_bytes
from typing import Final, TypeGuard

KEY_BYTES: Final = 32
"""The length of an AES-256-GCM key."""
UNUSED: Final = -1
"""Below every version: the `settled` version of a room that has not settled any."""
EXACT_INTEGERS: Final = 2**53
"""Every version and count is below this bound: a double, as JSON and other systems use, is exact up to here."""


@dataclass(frozen=True, slots=True)
class RoomKey:
    """One version of a room's key. Its repr shows only the version."""

    version: int
    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls, version: int) -> "RoomKey":
        """Return a new key from the operating system's randomness."""
        return cls(version, token_bytes(KEY_BYTES))


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What a channel's document says about its keys. (docs/contract.md, section 5)

    - `high`: the highest version that this worker ever used for the room.
    - `settled`: the version that this worker made current last; `current`: its key, while `encKey` is that key.
    - `staged`: the key that is on its way to the members.
    - `replaced`: the keys that the next settle takes out of use: this worker's last key, and a foreign key if
      another program wrote `encKey`.
    - `highest_seen`: the highest version anywhere in the document; `in_use`: that of `encKey`.
    - `high_lost`, `rotation_lost`, `past_lost`: another program has put something else in the place of `high`, of
      all that this worker keeps, or of the replaced keys that members may still ask for.
    """

    high: int | None = None
    settled: int = UNUSED
    current: RoomKey | None = None
    staged: RoomKey | None = None
    replaced: tuple[RoomKey, ...] = ()
    highest_seen: int | None = None
    in_use: int | None = None
    high_lost: bool = False
    rotation_lost: bool = False
    past_lost: bool = False

    @property
    def superseded(self) -> bool:
        """Tell whether another program put a version above the staged one in use. Versions never go down."""
        return self.staged is not None and self.in_use is not None and self.in_use > self.staged.version

    @property
    def next_to_stage(self) -> int | None:
        """Return the version to stage next, if the room has rotated since or the staged key is superseded."""
        if self.staged is None:
            return None
        high = self.staged.version if self.high is None else self.high
        if self.superseded and self.in_use is not None:
            high = max(high, self.in_use + 1)
        return high if high > self.staged.version else None

    @property
    def has_key(self) -> bool:
        """Tell whether the room has a key of this worker, current or staged."""
        return self.current is not None or self.staged is not None

    def next_version(self, floor: int) -> int:
        """Return the version of the next rotation: one above every version that the document shows.

        A room that has lost the record of its versions continues from `floor`, which is above every version that the
        room can have used before.
        """
        after_seen = 0 if self.highest_seen is None else self.highest_seen + 1
        return max(after_seen, floor) if self.highest_seen is None or self.high_lost else after_seen

    def with_high(self, version: int) -> "KeyRecord":
        """Return the record after the room's highest version has been raised."""
        return replace(self, high=version, highest_seen=version, high_lost=False, rotation_lost=False, past_lost=False)

    def with_staged(self, key: RoomKey) -> "KeyRecord":
        """Return the record after the key has been staged."""
        return replace(self.with_high(key.version), staged=key)

    def after_settle(self, next_key: RoomKey | None) -> "KeyRecord":
        """Return the record after the staged key has settled and `next_key`, if any, has been staged."""
        staged = self.staged
        if staged is None:
            return self
        foreign = tuple(key for key in self.replaced if self.superseded and key.version > staged.version)
        current, in_use = (None, self.in_use) if self.superseded else (staged, staged.version)
        settled = replace(self, settled=staged.version, current=current, staged=None, in_use=in_use, past_lost=False)
        settled = replace(settled, replaced=(staged, *foreign))
        return settled if next_key is None else settled.with_staged(next_key)


def is_version(value: object) -> TypeGuard[int]:
    """Tell whether the value is a version: a whole number from 0 up to, not including, `EXACT_INTEGERS`."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < EXACT_INTEGERS
