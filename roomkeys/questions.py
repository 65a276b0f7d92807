"""Questions to the key service: what the answers bring is held, what they refuse becomes errors."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from roomkeys import replies, subjects
from roomkeys.errors import UNAVAILABLE
from roomkeys.holder import Holder
from roomkeys.keys import RoomKey
from roomkeys.missing import KeyMissing, KeyNotAvailable, NotStored, missing
from roomkeys.pauses import Pauses
from roomkeys.requests import Item

log = logging.getLogger("roomkeys")

Request = Callable[[str, bytes], Awaitable[bytes | None]]
"""Sends a body to a subject and returns the reply, or None if nobody answered."""


class Questions:
    """What one account asks at one site."""

    def __init__(self, request: Request, account: str, site: str, holder: Holder, pauses: Pauses) -> None:
        self._request = request
        self._account = account
        self._batch = subjects.keys_batch(site, account)
        self._sync = subjects.keys_sync(site, account)
        self._holder = holder
        self._pauses = pauses
        self._failures = 0

    async def several(self, items: Sequence[Item]) -> Mapping[Item, RoomKey | KeyMissing]:
        """Ask for several keys; each has its own answer, or its own error."""
        data = await self._request(self._batch, replies.batch_request(items))
        answer = replies.Answer({}, {}, UNAVAILABLE) if data is None else replies.read_batch(items, data)
        stored = await self._holder.hold(answer.keys.values())
        return {item: self._outcome(item, answer, stored=stored) for item in items}

    async def everything(self, most_bytes: int) -> float | None:
        """Ask page by page for every key in use that is not held; return when to try again if that fails."""
        have = self._holder.ring.in_use()
        cursor: str | None = ""
        while cursor is not None:
            data = await self._request(self._sync, replies.sync_request(have, cursor or None, most_bytes))
            page = replies.Page(code=UNAVAILABLE) if data is None else replies.read_page(data)
            if page.code is not None or not await self._holder.hold(page.keys):
                return self._failed(page.code or NotStored.why)
            cursor = page.cursor
        self._failures = 0
        return None

    def _outcome(self, item: Item, answer: replies.Answer, *, stored: bool) -> RoomKey | KeyMissing:
        came = answer.keys.get(item)
        if came is None:
            error = missing(item.room_id, item.version, answer.code or answer.codes.get(item, UNAVAILABLE))
            if isinstance(error, KeyNotAvailable) and item.version is not None:
                # Versions only rise: one before that in use has gone and will not come.
                error.passing = item.version >= self._holder.ring.in_use().get(item.room_id, 0)
            return error
        if not stored:
            return NotStored(item.room_id, item.version)
        # What the ring holds comes first, and what is too old for it is still an answer.
        return self._holder.ring.key(item.room_id, item.version) or came.key

    def _failed(self, why: str) -> float:
        self._failures += 1
        if self._failures == 1:
            log.warning("%s cannot catch up now: %s", self._account, why)
        return self._pauses.after(self._failures)
