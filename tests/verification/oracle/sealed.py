"""Keys that were seen, to look for where they must not be. Nothing here shows them."""

from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Iterable
from hashlib import blake2b

STRIDE = 8


def digest(key: bytes) -> str:
    """Return a short hash of a key, to tell keys apart."""
    return blake2b(key, digest_size=6).hexdigest()


def spellings(key: bytes) -> list[bytes]:
    """Return how a key may be spelled: as bytes, in hex, in base64, and as Python or JSON show bytes."""
    shown = repr(key)[2:-1]
    texts = [key.hex(), key.hex().upper(), b64encode(key).decode()[:43], urlsafe_b64encode(key).decode()[:43]]
    return [key, *(text.encode() for text in [*texts, shown, shown.replace("\\", "\\\\")])]


class Sealed:
    """A set of keys that can be asked where one of them stands."""

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: bytes) -> str:
        """Note a key; return its digest."""
        short = digest(key)
        self._keys[short] = key
        return short

    def add_base64(self, text: str) -> str:
        """Note a key as payloads spell it."""
        return self.add(b64decode(text, validate=True))

    def search(self) -> "Search":
        """Return a search for the keys noted so far."""
        return Search(self._keys)


class Search:
    """Finds keys in texts, however many of both.

    Every eight bytes of a spelling are known. Of a text only every eighth place is looked at: a whole
    spelling cannot hide between two of them.
    """

    def __init__(self, keys: dict[str, bytes]) -> None:
        self._parts: dict[bytes, list[tuple[str, bytes]]] = {}
        for name, key in keys.items():
            for spelling in spellings(key):
                for at in range(STRIDE):
                    self._parts.setdefault(spelling[at : at + STRIDE], []).append((name, spelling))

    def found_in(self, text: bytes) -> set[str]:
        """Return the digests of the keys that stand in a text."""
        parts = self._parts.keys() & {text[at : at + STRIDE] for at in range(0, len(text), STRIDE)}
        known = (pair for part in parts for pair in self._parts[part])
        return {name for name, spelling in known if spelling in text}

    def found_in_lines(self, lines: Iterable[bytes]) -> list[tuple[int, str]]:
        """Return line number and digest of each key in a log file."""
        return [(number, name) for number, line in enumerate(lines, 1) for name in sorted(self.found_in(line))]
