"""Delivery: publishes what a batch's outbox entries ask for, in the order that subscribers rely on.

Notices come first, in stream order, then keys to joiners, then each staged key to all members of its room. The loop
puts one barrier around the calls.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from roomkeys.decisions.decision import OutboxEntry, Outcome
from roomkeys.keys import RoomKey
from roomkeys.messages.frame import message
from roomkeys.messages.notices import Notice, notices, result
from roomkeys.messages.room_key import RoomKeyEvent, marshal
from store.database import Database
from store.leases.lease import Lease
from store.reads.members import pages
from worker.broker.connection import Broker
from worker.broker.fanout import CHUNK_BYTES, Fanout
from worker.limits import Limits
from worker.telemetry.logs import logger

REQUEST_ID: Final = "X-Request-ID"

log = logger("publisher")


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes notices, keys and results; the caller's barrier confirms them."""

    broker: Broker
    database: Database
    fanout: Fanout
    site: str
    limits: Limits

    async def publish_notices(self, entries: Sequence[OutboxEntry]) -> None:
        """Publish the notices, in stream order."""
        await self._publish(notice for outcome in in_stream_order(entries) for notice in notices(outcome))

    async def send_key_to_joiners(
        self, keys: Mapping[str, RoomKey], joiners: Mapping[str, Sequence[str]], now_ms: int
    ) -> None:
        """Send each room's key to its joiners; each payload is serialised once and stamped `now_ms`."""
        payloads = _payloads(keys, now_ms)
        await self.fanout.send(payloads, {room_id: joiners[room_id] for room_id in payloads})

    async def fan_out_keys(
        self, keys: Mapping[str, RoomKey], known: Mapping[str, Sequence[object]], lease: Lease, now_ms: int
    ) -> Counter[str]:
        """Send each room's key to all its members, by room `known` or read here; return how many it was sent to.

        Members are read after their room's key was read or written, so accounts that left before it are gone.
        """
        payloads = _payloads(keys, now_ms)
        small = {room_id: known[room_id] for room_id in payloads if room_id in known}
        sent = Counter(await self.fanout.send(payloads, small))
        limits, unread = self.limits, payloads.keys() - known.keys()
        members = pages(self.database, lease, unread, first=limits.first_page_accounts, most=limits.page_accounts)
        async with aclosing(members) as found:
            async for page in found:
                sent.update(await self.fanout.send(payloads, page))
        return sent

    async def publish_results(self, entries: Iterable[OutboxEntry]) -> None:
        """Publish the results, in stream order."""
        results = map(result, in_stream_order(entries))
        await self._publish(answer for answer in results if answer is not None)

    async def _publish(self, wanted: Iterable[Notice]) -> None:
        """Publish in order, with many messages per write."""
        framed: list[bytes] = []
        size = 0
        for notice in wanted:
            headers = {} if notice.request_id is None else {REQUEST_ID: notice.request_id}
            if not self.broker.rejects(notice.subject, notice.body, headers):
                framed.append(message(notice.subject, notice.body, headers))
                size += len(framed[-1])
            if size >= CHUNK_BYTES:
                await self.broker.write(b"".join(framed))
                framed, size = [], 0
        if framed:
            await self.broker.write(b"".join(framed))


def joiners_by_room(entries: Iterable[OutboxEntry]) -> dict[str, list[str]]:
    """Return the accounts that each room's current key goes to; a room may have several entries."""
    joiners: dict[str, list[str]] = {}
    for entry in entries:
        if entry.room_id is not None and entry.joiners:
            joiners.setdefault(entry.room_id, []).extend(entry.joiners)
    return joiners


def in_stream_order(entries: Iterable[OutboxEntry]) -> list[Outcome]:
    """Return the outcomes of all rooms in the order of their events."""
    outcomes = (outcome for entry in entries for outcome in entry.outcomes)
    return sorted(outcomes, key=lambda outcome: outcome.sequence)


def _payloads(keys: Mapping[str, RoomKey], now_ms: int) -> dict[str, bytes]:
    return {room_id: marshal(RoomKeyEvent(room_id, key), now_ms) for room_id, key in keys.items()}
