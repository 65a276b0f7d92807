"""A flood of one member: ready-made frames at a fixed rate over one bare connection, so that it costs little CPU."""

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from benchmarks.harness import wire
from benchmarks.harness.child import child
from roomkeys.subjects import key_get

MEMBER: Final = "flooder"
IDLE: Final = "no flood"
_TICKS: Final = 100
"""Writes per second."""

_BEHIND: Final = 0.05
"""Seconds of writes that are made up for when the broker has taken too little; more would be a burst."""


@dataclass(frozen=True, slots=True)
class Flood:
    """What a member sends: how often per second, and with how many bytes of body."""

    subject: str
    per_second: int
    body: int = 0

    def frames(self) -> bytes:
        """Return what is written at once."""
        frame = b"PUB %s _INBOX.%s.x %d\r\n%s\r\n" % (
            self.subject.encode(),
            MEMBER.encode(),
            self.body,
            bytes(self.body),
        )
        return frame * (self.per_second // _TICKS)


def floods(site: str) -> dict[str, Flood]:
    """Return the floods of a site, by name."""
    get = key_get(site, MEMBER, "ten0")
    return {
        "60,000 empty requests per second": Flood(get, 60_000),
        "300,000 empty requests per second": Flood(get, 300_000),
        "400 requests of 1 MB per second": Flood(get, 400, 1_000_000),
        "400 messages of 1 MB per second that nobody receives": Flood("nobody.receives", 400, 1_000_000),
        "60,000 requests for $SRV.STATS per second": Flood("$SRV.STATS", 60_000),
    }


@asynccontextmanager
async def flooding(nats_url: str, site: str, name: str) -> AsyncIterator[None]:
    """Flood from a separate process for the length of the block."""
    command = [sys.executable, "-m", "benchmarks.harness.flood", nats_url, site, name]
    async with child(name, command, {}) as flooder:
        await flooder.answer()
        yield


def main(nats_url: str, site: str, name: str) -> None:
    """Write until the process is ended; a broker that takes less than the rate slows this down."""
    frames = floods(site)[name].frames()
    connection = wire.connect(nats_url)
    print("{}", flush=True)
    due = time.monotonic()
    while True:
        connection.sendall(frames)
        due = max(due + 1 / _TICKS, time.monotonic() - _BEHIND)
        time.sleep(max(due - time.monotonic(), 0.0))


if __name__ == "__main__":
    main(*sys.argv[1:])
