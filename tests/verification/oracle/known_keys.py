"""The keys that a recording has seen, and a search for them where they must not be. No key is ever shown."""

from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Iterable
from hashlib import blake2b

STRIDE = 8


def digest(key: bytes) -> str:
    """Return a short hash of a key, to tell keys apart."""
    return blake2b(key, digest_size=6).hexdigest()


def spellings(key: bytes) -> list[bytes]:
    """Return how a key can be spelled: as bytes, in hex, in base64, and as Python or JSON shows bytes."""
    shown = repr(key)[2:-1]
    texts = [key.hex(), key.hex().upper(), b64encode(key).decode()[:43], urlsafe_b64encode(key).decode()[:43]]
    return [key, *(text.encode() for text in [*texts, shown, shown.replace("\\", "\\\\")])]


class KnownKeys:
    """A set of keys."""

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: bytes) -> str:
        """Add a key; return its digest."""
        short = digest(key)
        self._keys[short] = key
        return short

    def add_base64(self, text: str) -> str:
        """Add a key as payloads spell it; return its digest."""
        return self.add(b64decode(text, validate=True))

    def search(self) -> "KeySearch":
        """Return a search for the keys that were added so far."""
        return KeySearch(self._keys)


class KeySearch:
    """Finds keys in texts, at a cost that does not depend on the number of keys.

    It indexes every run of eight bytes of every spelling, and looks up only every eighth position of a text: a
    whole spelling always covers one of them.
    """

    def __init__(self, keys: dict[str, bytes]) -> None:
        self._runs: dict[bytes, list[tuple[str, bytes]]] = {}
        for name, key in keys.items():
            for spelling in spellings(key):
                for at in range(STRIDE):
                    self._runs.setdefault(spelling[at : at + STRIDE], []).append((name, spelling))

    def found_in(self, text: bytes) -> set[str]:
        """Return the digests of the keys that a text contains."""
        runs = self._runs.keys() & {text[at : at + STRIDE] for at in range(0, len(text), STRIDE)}
        candidates = (pair for run in runs for pair in self._runs[run])
        return {name for name, spelling in candidates if spelling in text}

    def found_in_lines(self, lines: Iterable[bytes]) -> list[tuple[int, str]]:
        """Return the line number and the digest of each key in a log file."""
        return [(number, name) for number, line in enumerate(lines, 1) for name in sorted(self.found_in(line))]
