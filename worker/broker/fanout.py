"""Fan-out: one payload to many accounts, as chunks of framed bytes, with a bound on the chunks in flight.

A publish does not wait for the broker, so a bound on publishes bounds nothing. The bound is on the chunks between
framing and the socket. (docs/design.md, "Why it is fast")
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from roomkeys.messages.frame import frame, split
from worker.broker.connection import Broker
from worker.telemetry import metrics
from worker.telemetry.logs import logger

CHUNK_ACCOUNTS: Final = 2_048
CHUNK_BYTES: Final = 256 * 1024

log = logger("fanout")


class Fanout:
    """Publishes room keys. All partitions of a replica share it, and its bound."""

    def __init__(self, broker: Broker, most_in_flight: int) -> None:
        self._broker = broker
        self._in_flight = asyncio.Semaphore(most_in_flight)

    async def send(self, payloads: Mapping[str, bytes], page: Mapping[str, Sequence[object]]) -> dict[str, int]:
        """Publish each room's payload to its accounts of a page; return how many these were, by room.

        `TransientError`: the broker is away.
        """
        sent: dict[str, int] = {}
        for chunk in chunks(payloads, page, sent):
            async with self._in_flight:
                await self._broker.write(chunk)
        return sent


def chunks(
    payloads: Mapping[str, bytes], page: Mapping[str, Sequence[object]], sent: dict[str, int] | None = None
) -> Iterator[bytes]:
    """Yield a page's protocol bytes: many small rooms per chunk, a large room in several chunks.

    Invalid accounts are left out and reported. `sent` gets the number of accounts of each room.
    """
    framed: list[bytes] = []
    size = 0
    for room_id, members in page.items():
        recipients = split(members)
        accounts = recipients.accounts
        metrics.RECIPIENTS.inc(len(accounts))
        if sent is not None:
            sent[room_id] = len(accounts)
        if recipients.refused:
            metrics.REFUSED.inc(recipients.refused)
            log.error("skipped invalid accounts", room=room_id, accounts=recipients.refused)
        for start in range(0, len(accounts), CHUNK_ACCOUNTS):
            framed.append(frame(accounts[start : start + CHUNK_ACCOUNTS], payloads[room_id]))
            size += len(framed[-1])
            if size >= CHUNK_BYTES:
                yield b"".join(framed)
                framed, size = [], 0
    if framed:
        yield b"".join(framed)
