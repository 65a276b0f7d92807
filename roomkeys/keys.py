"""Room keys: their bytes, their versions, and what a rotation makes of them.

A version is used once: `high` is the highest that a room ever used or promised, and it only rises, also
after the room's `encKey` was lost. A key that was staged becomes current only once the broker has taken it
for every member. (design.md, invariants 3 and 4)
"""

from dataclasses import dataclass, field, replace
from secrets import token_bytes
from typing import Final, TypeGuard

KEY_BYTES: Final = 32
"""An AES-256-GCM key."""

UNUSED: Final = -1
"""The version below every version: what a room that has settled nothing has settled."""


@dataclass(frozen=True, slots=True)
class RoomKey:
    """One version of a room's key; its repr shows the version only."""

    version: int
    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls, version: int) -> "RoomKey":
        """Make a new key from the operating system's randomness."""
        return cls(version, token_bytes(KEY_BYTES))


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What a channel's document says about its keys.

    `high` is the highest version this worker ever used for the room, `settled` the one it last made current,
    `current` that key where the room's `encKey` still is it, `replaced` the keys that go out of use when the
    next one settles (ours, and a foreign `encKey` that somebody else wrote), `seen` the highest version that
    appears anywhere, `in_use` that of `encKey`, and `staged` a key that is on its way to the members.
    """

    high: int | None = None
    settled: int = UNUSED
    current: RoomKey | None = None
    staged: RoomKey | None = None
    replaced: tuple[RoomKey, ...] = ()
    highest_seen: int | None = None
    in_use: int | None = None

    @property
    def superseded(self) -> bool:
        """Tell whether somebody else has put a version in use above the staged one: versions do not go down."""
        return self.staged is not None and self.in_use is not None and self.in_use > self.staged.version

    @property
    def next_to_stage(self) -> int | None:
        """Return the version to be staged when the staged key settles; None: it is the last one for now."""
        if self.staged is None:
            return None
        high = self.staged.version if self.high is None else self.high
        if self.superseded and self.in_use is not None:
            high = max(high, self.in_use + 1)
        return high if high > self.staged.version else None

    @property
    def has_key(self) -> bool:
        """Tell whether there is a key to give, in use or on its way."""
        return self.current is not None or self.staged is not None

    def next_version(self, at_ms: int) -> int:
        """Return the version of the next rotation: one above everything ever seen.

        A room without any trace of a version goes on from the epoch seconds of the broker's time `at_ms`,
        which is above whatever it can have used before it lost its record.
        """
        return at_ms // 1000 if self.highest_seen is None else self.highest_seen + 1

    def with_staged(self, key: RoomKey) -> "KeyRecord":
        """Return the record with the key on its way to the members."""
        return replace(self, high=key.version, staged=key, highest_seen=key.version)

    def after_settle(self, following: RoomKey | None) -> "KeyRecord":
        """Return the record with the staged key settled and the following one, if any, on its way."""
        staged = self.staged
        if staged is None:
            return self
        foreign = tuple(key for key in self.replaced if self.superseded and key.version > staged.version)
        settled = replace(
            self,
            settled=staged.version,
            current=None if self.superseded else staged,
            staged=None,
            replaced=(staged, *foreign),
            in_use=self.in_use if self.superseded else staged.version,
        )
        return settled if following is None else settled.with_staged(following)


_VERSIONS: Final = 2**53
"""Beyond this a number in JSON is not exact, and no version."""


def is_version(value: object) -> TypeGuard[int]:
    """Tell whether it is a version: a whole number that is not negative."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _VERSIONS
