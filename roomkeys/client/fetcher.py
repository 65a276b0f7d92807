"""Questions to the key service: what the answers bring is held, what they refuse becomes errors."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from roomkeys import subjects
from roomkeys.client import protocol
from roomkeys.client.errors import KeyMissing, KeyNotAvailable, KeyStoreFailed, missing
from roomkeys.client.keyring import Holder
from roomkeys.client.resync import Backoff
from roomkeys.errors import UNAVAILABLE
from roomkeys.keys import UNUSED, RoomKey
from roomkeys.messages.key_requests import MAX_ITEMS, Item

log = logging.getLogger("roomkeys")

Request = Callable[[str, bytes], Awaitable[bytes | None]]
"""Sends a body to a subject and returns the reply, or None if nobody answered."""


class KeyFetcher:
    """What one account asks at one site."""

    def __init__(self, request: Request, account: str, site: str, holder: Holder, pauses: Backoff) -> None:
        self._request = request
        self._account = account
        self._batch = subjects.keys_batch(site, account)
        self._sync = subjects.keys_sync(site, account)
        self._holder = holder
        self._pauses = pauses
        self._status = subjects.status_batch(site, account)
        self._failures = 0
        self._looks = 0
        self._anew = self._unread = True
        # Rooms whose next key may have been sent before the account listened, and the version in use that was
        # seen there; None until it was looked at.
        self._unsure: dict[str, int | None] = {}

    async def several(self, items: Sequence[Item]) -> Mapping[Item, RoomKey | KeyMissing]:
        """Ask for several keys; each has its own answer, or its own error."""
        data = await self._request(self._batch, protocol.batch_request(items))
        answer = protocol.Answer({}, {}, UNAVAILABLE) if data is None else protocol.read_batch(items, data)
        stored = await self._holder.hold(answer.keys.values())
        return {item: self._outcome(item, answer, stored=stored) for item in items}

    async def everything(self, most_bytes: int, *, anew: bool) -> float | None:
        """Ask for every key in use that is not held; return when to ask again: if that fails, or a key is due.

        A key that is on its way to the members of a room is in no answer yet, and whoever began to listen after
        it was sent to them is not sent it again: rooms that rotate now are asked about until they have settled.
        `anew`: something may have been missed since the last call.
        """
        self._anew, self._unread = self._anew or anew, self._unread or anew
        if self._unread and (why := await self._pages(most_bytes)) is not None:
            return self._failed(why)
        self._unread = False
        if self._anew:
            self._unsure = dict.fromkeys(self._holder.ring.in_use())
            self._anew, self._looks = False, 0
        if (why := await self._look()) is not None:
            return self._failed(why)
        self._failures = 0
        if not self._unsure:
            return None
        self._unread = True
        self._looks += 1
        return self._pauses.after(self._looks)

    async def _pages(self, most_bytes: int) -> str | None:
        """Ask page by page for the keys in use; return why that failed."""
        have = self._holder.ring.in_use()
        cursor: str | None = ""
        while cursor is not None:
            data = await self._request(self._sync, protocol.sync_request(have, cursor or None, most_bytes))
            page = protocol.Page(code=UNAVAILABLE) if data is None else protocol.read_page(data)
            if page.code is not None or not await self._holder.hold(page.keys):
                return page.code or KeyStoreFailed.reason
            cursor = page.cursor
        return None

    async def _look(self) -> str | None:
        """Ask how the rooms stand that this is unsure of; return why that failed."""
        rooms = list(self._unsure)
        for start in range(0, len(rooms), MAX_ITEMS):
            some = rooms[start : start + MAX_ITEMS]
            data = await self._request(self._status, protocol.status_request(some))
            states = UNAVAILABLE if data is None else protocol.read_status(data)
            if isinstance(states, str):
                return states
            for room_id in some:
                self._note(room_id, states.get(room_id))
        return None

    def _note(self, room_id: str, state: protocol.State | None) -> None:
        """Note how a room stands: a key that is staged after this was sent to who listens now."""
        seen = self._unsure.pop(room_id)
        if state is None:
            return
        behind = state.version > self._holder.ring.in_use().get(room_id, UNUSED) and seen != state.version
        if behind or (state.rotating and seen in {None, state.version}):
            self._unsure[room_id] = state.version

    def _outcome(self, item: Item, answer: protocol.Answer, *, stored: bool) -> RoomKey | KeyMissing:
        came = answer.keys.get(item)
        if came is None:
            error = missing(item.room_id, item.version, answer.code or answer.codes.get(item, UNAVAILABLE))
            if isinstance(error, KeyNotAvailable) and item.version is not None:
                # Versions only rise: one before that in use has gone and will not come.
                error.retryable = item.version >= self._holder.ring.in_use().get(item.room_id, 0)
            return error
        if not stored:
            return KeyStoreFailed(item.room_id, item.version)
        # What the ring holds comes first, and what is too old for it is still an answer.
        return self._holder.ring.key(item.room_id, item.version) or came.key

    def _failed(self, why: str) -> float:
        self._failures += 1
        if self._failures == 1:
            log.warning("%s cannot catch up now: %s", self._account, why)
        return self._pauses.after(self._failures)
