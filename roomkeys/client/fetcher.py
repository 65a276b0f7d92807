"""The key fetcher: requests keys from the key service, and adds the keys in the replies to the key ring."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from roomkeys import subjects
from roomkeys.backoff import Backoff
from roomkeys.client import protocol
from roomkeys.client.errors import (
    KeyMissing,
    KeyNotAvailable,
    KeyStoreFailed,
    KeyTimeout,
    NotRoomMember,
    RoomHasNoKey,
    missing,
)
from roomkeys.client.keyring import StoredKeyRing
from roomkeys.client.membership import Counts, Memberships
from roomkeys.errors import UNAVAILABLE
from roomkeys.keys import UNUSED, RoomKey
from roomkeys.messages.key_requests import MAX_ITEMS, Item

log = logging.getLogger("roomkeys")

Request = Callable[[str, bytes], Awaitable[bytes | None]]
"""Sends a body to a subject and returns the reply, or None if there was none."""


class KeyFetcher:
    """Sends the requests of one account at one site."""

    def __init__(
        self, request: Request, account: str, site: str, keys: StoredKeyRing, memberships: Memberships, backoff: Backoff
    ) -> None:
        self._request = request
        self._account = account
        self._batch_subject = subjects.keys_batch(site, account)
        self._sync_subject = subjects.keys_sync(site, account)
        self._status_subject = subjects.status_batch(site, account)
        self._keys = keys
        self._memberships = memberships
        self._backoff = backoff
        self._failures = 0
        self._status_checks = 0
        self._pages_due = self._status_due = True
        # Rooms whose next key may have been sent before this client subscribed, with the version in use that the
        # last status check saw, or None before the first check.
        self._maybe_rotating: dict[str, int | None] = {}

    async def fetch(self, items: Sequence[Item]) -> Mapping[Item, RoomKey | KeyMissing]:
        """Request several keys; return for each item the key, or the reason why it is missing."""
        counts = self._memberships.asked_now()
        data = await self._request(self._batch_subject, protocol.encode_batch_request(items))
        reply = protocol.decode_batch_reply(items, data)
        stored = await self._keys.add(reply.keys.values(), counts)
        outcomes = {item: self._outcome(item, reply, counts, stored=stored) for item in items}
        without = [
            item for item, found in outcomes.items() if item.version is None and isinstance(found, KeyNotAvailable)
        ]
        for room_id in await self._rooms_without_key([item.room_id for item in without]):
            outcomes[Item(room_id)] = RoomHasNoKey(room_id, None, retryable=False)
        return outcomes

    async def sync(self, max_bytes: int, *, force: bool) -> float | None:
        """Fetch all keys in use that the ring lacks; return after how many seconds to call again, or None.

        A key that is being sent to the members of a room is in no reply until the room settles, and is not sent
        again to a client that subscribed too late for it. So rooms that rotate now are checked until they settle.
        `force`: keys may have been missed since the last call, so that everything is requested. `max_bytes` limits
        a request's body.
        """
        self._pages_due = self._pages_due or force
        self._status_due = self._status_due or force
        if self._pages_due and (reason := await self._fetch_pages(max_bytes)) is not None:
            return self._pause_after_failure(reason)
        self._pages_due = False
        if self._status_due:
            self._maybe_rotating = dict.fromkeys(self._keys.ring.in_use())
            self._status_due, self._status_checks = False, 0
        if (reason := await self._check_status()) is not None:
            return self._pause_after_failure(reason)
        self._failures = 0
        if not self._maybe_rotating:
            return None
        self._pages_due = True
        self._status_checks += 1
        return self._backoff.pause(self._status_checks)

    async def _fetch_pages(self, max_bytes: int) -> str | None:
        """Fetch the keys in use page by page; return the reason if that failed."""
        have = self._keys.ring.in_use()
        cursor: str | None = ""
        while cursor is not None:
            body = protocol.encode_sync_request(have, cursor or None, max_bytes)
            counts = self._memberships.asked_now()
            data = await self._request(self._sync_subject, body)
            page = protocol.decode_sync_reply(data)
            if page.code is not None or not await self._keys.add(page.keys, counts):
                return page.code or KeyStoreFailed.reason
            cursor = page.cursor
        return None

    async def _check_status(self) -> str | None:
        """Request the status of the rooms that may be rotating; return the reason if that failed."""
        room_ids = list(self._maybe_rotating)
        for start in range(0, len(room_ids), MAX_ITEMS):
            chunk = room_ids[start : start + MAX_ITEMS]
            counts = self._memberships.asked_now()
            data = await self._request(self._status_subject, protocol.encode_status_request(chunk))
            statuses = protocol.decode_status_reply(data)
            if isinstance(statuses, str):
                return statuses
            for room_id in chunk:
                self._update(room_id, statuses.get(room_id), counts)
        return None

    async def _rooms_without_key(self, room_ids: Sequence[str]) -> list[str]:
        """Return which of these rooms, which have no key in use, get none soon; none of them if nobody answers."""
        if not room_ids:
            return []
        data = await self._request(self._status_subject, protocol.encode_status_request(room_ids))
        statuses = protocol.decode_status_reply(data)
        if isinstance(statuses, str):
            return []
        return [room_id for room_id in room_ids if room_id in statuses and statuses[room_id].has_no_key]

    def _update(self, room_id: str, status: protocol.RoomStatus | None, counts: Counts) -> None:
        """Keep checking a room while the ring lacks the version in use, or the rotation seen before goes on."""
        # A key that is staged later is sent to this client, which is subscribed by then.
        checked = self._maybe_rotating.pop(room_id)
        if status is None:
            if counts(room_id):  # the account was removed, and no notice has reached this client
                self._keys.ring.retract(room_id)
            return
        ring_version = self._keys.ring.in_use().get(room_id, UNUSED)
        is_behind = status.version > ring_version and checked != status.version
        if is_behind or (status.rotating and checked in {None, status.version}):
            self._maybe_rotating[room_id] = status.version

    def _outcome(self, item: Item, reply: protocol.BatchReply, counts: Counts, *, stored: bool) -> RoomKey | KeyMissing:
        if item.version is None and not counts(item.room_id):
            return KeyTimeout(item.room_id, None)  # the membership changed meanwhile: ask again
        received = reply.keys.get(item)
        if received is None:
            error = missing(item.room_id, item.version, reply.code or reply.codes.get(item, UNAVAILABLE))
            if isinstance(error, NotRoomMember) and counts(item.room_id):
                self._keys.ring.retract(item.room_id)
            if isinstance(error, KeyNotAvailable) and item.version is not None:
                # Versions only rise: one below the version in use has expired and will not come back.
                error.retryable = item.version >= self._keys.ring.in_use().get(item.room_id, 0)
            return error
        if not stored:
            return KeyStoreFailed(item.room_id, item.version)
        # The ring's key takes precedence. A key that is too old for the ring is still returned.
        return self._keys.ring.key(item.room_id, item.version) or received.key

    def _pause_after_failure(self, reason: str) -> float:
        self._failures += 1
        if self._failures == 1:
            log.warning("cannot fetch missed keys of %s, will retry: %s", self._account, reason)
        return self._backoff.pause(self._failures)
