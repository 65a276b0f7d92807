"""Which account was sent which version, tallied in rooms with too many members to keep every message."""

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

KEY = re.compile(
    rb"MSG chat\.user\.m(\d+)\.event\.room\.key \S+ \d+\r\n"
    rb'\{"roomId":"([^"]+)","version":(\d+),"privateKey":"([^"]+)","timestamp":\d+\}\r\n'
)
PATIENCE = 300.0


@dataclass
class Tally:
    """Which of the accounts m0, m1, … were sent which (room, version), in one byte per account."""

    accounts: int
    sent: dict[tuple[str, int], bytearray] = field(default_factory=dict)
    keys: dict[tuple[str, int], set[bytes]] = field(default_factory=lambda: defaultdict(set))
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    async def count(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Count what the socket delivers until it is closed."""
        rest = b""
        while data := await reader.read(2**20):
            if b"PING\r\n" in data:
                writer.write(b"PONG\r\n")
            rest += data
            end = 0
            for match in KEY.finditer(rest):
                account, room, version, key = match.groups()
                self._add((room.decode(), int(version)), int(account), key)
                end = match.end()
            rest = rest[end:]
            self._more.set()

    def _add(self, room_and_version: tuple[str, int], account: int, key: bytes) -> None:
        if room_and_version not in self.sent:
            self.sent[room_and_version] = bytearray(self.accounts)
        self.sent[room_and_version][account] = 1
        self.keys[room_and_version].add(key)

    def reached(self, room: str, version: int) -> int:
        """Return how many accounts were sent a version."""
        return self.sent.get((room, version), b"").count(1)

    def holds(self, room: str, version: int, account: int) -> bool:
        """Return True if an account was sent a version."""
        return bool(self.sent.get((room, version), bytearray(self.accounts))[account])

    def versions(self, room: str) -> list[int]:
        """Return the versions of a room that any account was sent."""
        return sorted(version for of_room, version in self.sent if of_room == room)

    async def until(self, condition: Callable[[], bool], name: str) -> None:
        """Wait until the condition holds; the name is for the failure."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            seen = {key: sum(accounts) for key, accounts in list(self.sent.items())[:20]}
            raise AssertionError(f"timed out while waiting for {name}; reached: {seen}") from None


@asynccontextmanager
async def tally(url: str, accounts: int) -> AsyncIterator[Tally]:
    """Tally all room keys for the length of the block, on a separate socket without a NATS client."""
    host, _, port = url.removeprefix("nats://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**22)
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB chat.user.*.event.room.key 1\r\nPING\r\n')
    while await reader.readline() != b"PONG\r\n":
        continue
    made = Tally(accounts)
    counting = asyncio.create_task(made.count(reader, writer))
    try:
        yield made
    finally:
        counting.cancel()
        writer.close()
