"""Faults of a wire, for a proxy: cut at a place, lose an answer, stall, go deaf."""

import asyncio
import random
from collections import defaultdict
from dataclasses import dataclass, field

import pytest

from tests.harness.proxy import Chunk, Connection, Cut

LEAVES_CONNECTIONS = [
    pytest.mark.usefixtures("garbage_collected"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
"""Marks of tests in which nats-py gives a connection up and leaves it for the garbage collector to close."""


@dataclass
class Place:
    """A place in what one side sends: `keep` bytes into a pattern; an empty pattern is there at once."""

    pattern: bytes
    keep: int = 0
    from_client: bool = True
    _before: dict[Connection, bytes] = field(default_factory=lambda: defaultdict(bytes))

    def within(self, chunk: Chunk) -> int | None:
        """Return how many bytes of a chunk lie before the place, if it has come."""
        if chunk.from_client != self.from_client:
            return None
        before = self._before[chunk.connection]
        whole = before + chunk.data
        at = whole.find(self.pattern)
        if at < 0:
            self._before[chunk.connection] = whole[len(whole) - len(self.pattern) + 1 :]
        elif len(whole) < at + self.keep:
            self._before[chunk.connection] = whole[at:]
        else:
            del self._before[chunk.connection]
            return max(at + self.keep - len(before), 0)
        return None


@dataclass
class CutAt:
    """Cuts the connection at a place, as often as `times` says; the first `spared` times it lets it pass."""

    place: Place
    times: int = 1
    spared: int = 0

    async def __call__(self, chunk: Chunk) -> bytes:
        within = self.place.within(chunk) if self.times else None
        if within is None:
            return chunk.data
        if self.spared:
            self.spared -= 1
            return chunk.data
        self.times -= 1
        raise Cut(chunk.data[:within])


@dataclass
class LoseAnswer:
    """Lets a request pass and cuts the connection in place of its answer, as often as `times` says."""

    place: Place
    times: int = 1
    spared: int = 0
    _asked: set[Connection] = field(default_factory=set)

    async def __call__(self, chunk: Chunk) -> bytes:
        if chunk.connection in self._asked and not chunk.from_client:
            self.times -= 1
            self._asked.discard(chunk.connection)
            raise Cut
        if self.times and self.place.within(chunk) is not None:
            if self.spared:
                self.spared -= 1
            else:
                self._asked.add(chunk.connection)
        return chunk.data


@dataclass
class Swallow:
    """Drops what a client sends from a mark on, and cuts at the next PING; its PONGs keep coming."""

    mark: bytes
    met: bool = False
    struck: bool = False

    async def __call__(self, chunk: Chunk) -> bytes:
        if self.struck or not chunk.from_client:
            return chunk.data
        data, passed = chunk.data, b""
        if not self.met:
            passed, found, data = data.partition(self.mark)
            self.met = bool(found)
        self.struck = self.met and b"PING\r\n" in data
        if self.struck:
            raise Cut(passed)
        return passed


@dataclass
class Stall:
    """Holds what comes from a place on, and reads no more of it, until released; the connection stays."""

    place: Place
    held: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, chunk: Chunk) -> bytes:
        if not self.held.is_set() and self.place.within(chunk) is not None:
            self.held.set()
            await self.released.wait()
        return chunk.data


@dataclass
class Deafen:
    """Swallows, from a place on, all that the connection carries in that direction: it is half open."""

    place: Place
    struck: Connection | None = None

    async def __call__(self, chunk: Chunk) -> bytes:
        if self.struck is None and self.place.within(chunk) is not None:
            self.struck = chunk.connection
        swallowed = chunk.connection is self.struck and chunk.from_client == self.place.from_client
        return b"" if swallowed else chunk.data


@dataclass
class CutAnywhere:
    """Cuts connections `times` times after so many bytes as a seed says, of either side."""

    seed: int
    times: int
    most: int
    _next: CutAt | None = None

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)  # noqa: S311 - a plan

    async def __call__(self, chunk: Chunk) -> bytes:
        if self._next is None or not self._next.times:
            if not self.times:
                return chunk.data
            self.times -= 1
            place = Place(b"", self._chance.randrange(self.most), self._chance.random() < 0.7)
            self._next = CutAt(place)
        return await self._next(chunk)
