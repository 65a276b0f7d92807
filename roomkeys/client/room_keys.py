"""The subscriber's library: holds an account's room keys, and opens and seals messages with them.

    nc = await nats.connect(..., max_reconnect_attempts=-1)
    async with RoomKeys(nc, "alice", "site-a") as keys:
        text = await keys.open(room_id, envelope)

It subscribes first and catches up after that, so that no key falls between; it catches up again after every
reconnect, and asks for what a message needs and no other way has brought. The connection stays its maker's: no
callback of it is touched, reconnects are noticed by the client's own count of them. docs/client.md tells more.

The one file of the library that talks to NATS.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from roomkeys import subjects
from roomkeys.client import protocol
from roomkeys.client.envelope import EncryptedMessage, read_envelope, seal, unseal
from roomkeys.client.errors import InvalidRequest
from roomkeys.client.fetcher import KeyFetcher
from roomkeys.client.keyring import VERSIONS, HeldKey, Holder, KeyRing, KeyStore
from roomkeys.client.listeners import KeyListeners
from roomkeys.client.pending import Searches, Window
from roomkeys.client.resync import Backoff, Resync
from roomkeys.keys import RoomKey, is_version
from roomkeys.messages.key_requests import Item
from roomkeys.tokens import is_token

DEADLINE_SECONDS: Final = 10.0
"""How long a message waits for its key, unless its reader says otherwise."""

REQUEST_SECONDS: Final = 5.0
"""How long a reply may take: a little longer than the service lets its database take."""

LOOK_SECONDS: Final = 1.0
"""About how often a client looks whether it was reconnected: each at a moment of its own."""

_SPARE_BYTES: Final = 1024

log = logging.getLogger("roomkeys")


class RoomKeys:
    """The room keys of one account, for as long as the context lasts."""

    def __init__(
        self, nc: Client, account: str, site: str, *, store: KeyStore | None = None, versions: int = VERSIONS
    ) -> None:
        if not is_token(account) or not is_token(site):
            raise ValueError("account and site must be tokens: not empty, without dots, wildcards or white space")
        self.account = account
        self._nc = nc
        self._ring = KeyRing(versions)
        self._pauses = Backoff()
        self._holder = Holder(self._ring, store, self._arrived)
        self._questions = KeyFetcher(self._request, account, site, self._holder, self._pauses)
        self._tasks = asyncio.TaskGroup()
        self._window = Window(self._questions.several, self._tasks)
        self._searches = Searches(self._window.ask, self._pauses, self._tasks)
        self._catch_up = Resync(lambda anew: self._questions.everything(nc.max_payload - _SPARE_BYTES, anew=anew))
        self._changes = KeyListeners()
        self._reconnects = 0
        self._subscription: Subscription | None = None
        self._running: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"RoomKeys({self.account}, {self._ring})"

    async def __aenter__(self) -> Self:
        """Load what was stored, subscribe, and try once to catch up; where that fails it goes on beside."""
        await self._holder.load()
        self._reconnects = self._nc.stats["reconnects"]
        self._subscription = await self._nc.subscribe(subjects.room_key(self.account), cb=self._take)
        self._running = asyncio.create_task(self._run())
        try:
            await self._until_ended_or(self._catch_up.tried())
        except asyncio.CancelledError:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unsubscribe and end everything; the connection stays."""
        await self._leave()

    async def open(
        self,
        room_id: str,
        envelope: EncryptedMessage | Mapping[str, Any] | bytes,
        *,
        deadline: float = DEADLINE_SECONDS,
    ) -> bytes:
        """Open a message, decoded from JSON or not yet; wait for its key or ask for it where it is missing.

        `KeyMissing` says which key is missing and why, at the latest after `deadline` seconds. `InvalidEnvelope`,
        `DecryptionFailed`: the message is not what it should be.
        """
        sealed = read_envelope(envelope)
        return unseal(await self.key(room_id, sealed.version, deadline=deadline), sealed)

    async def seal(
        self, room_id: str, plaintext: bytes, *, deadline: float = DEADLINE_SECONDS
    ) -> EncryptedMessage:
        """Seal a message with the newest key of the room that is known to be in use; `KeyMissing` as in `open`."""
        return seal(await self.key(room_id, deadline=deadline), plaintext)

    async def key(
        self, room_id: str, version: int | None = None, *, deadline: float = DEADLINE_SECONDS
    ) -> RoomKey:
        """Return a version of a room's key, or the one in use; `KeyMissing` as in `open`."""
        held = self._ring.key(room_id, version)
        if held is not None:
            return held
        if not is_token(room_id) or not (version is None or is_version(version)):
            raise InvalidRequest(room_id, version, retryable=False)
        return await self._searches.find(Item(room_id, version), deadline)

    def held(self, room_id: str) -> list[int]:
        """Return which versions of a room's key are held."""
        return self._ring.versions(room_id)

    def changes(self) -> AsyncGenerator[HeldKey, None]:
        """Return an iterator over the keys that are newly held from now on; it ends with the context."""
        return self._changes.follow()

    def on_change(self, callback: Callable[[HeldKey], None]) -> Callable[[], None]:
        """Call back for every key that is newly held; call what this returns to end it."""
        return self._changes.call(callback)

    async def caught_up(self) -> None:
        """Wait until all that was missed before this call is held, or the client has ended."""
        self._look()
        if not self._nc.is_connected:
            self._catch_up.call()  # the reconnect that shows that something is missed is still to come
        await self._until_ended_or(self._catch_up.done())

    async def _until_ended_or(self, waiting: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(waiting)
        try:
            awaited = {task} if self._running is None else {task, self._running}
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()

    async def _leave(self) -> None:
        if self._subscription is not None:
            with suppress(nats.errors.Error, OSError):
                await self._subscription.unsubscribe()
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
            if not self._running.cancelled():
                self._running.result()

    async def _run(self) -> None:
        """Do what goes on beside the user's program, until the connection is closed for good."""
        async with self._tasks:
            catching_up = self._tasks.create_task(self._catch_up.serve())
            self._catch_up.call()
            try:
                while not self._nc.is_closed:
                    await asyncio.sleep(self._pauses.spread(LOOK_SECONDS))
                    self._look()
                log.warning("the connection of %s is closed: no keys come any more", self.account)
            finally:
                self._searches.close()
                self._changes.close()
                catching_up.cancel()

    def _look(self) -> None:
        """Call for a pass if the connection was lost since the last look: the client has subscribed anew."""
        reconnects = self._nc.stats["reconnects"]
        if reconnects != self._reconnects:
            self._reconnects = reconnects
            self._catch_up.call()

    async def _take(self, message: Msg) -> None:
        """Take a key that was sent."""
        key = protocol.read_key(message.data)
        if key is None:
            log.warning("a message to %s is no room key", self.account)
        elif not await self._holder.hold([key]):
            self._catch_up.call()  # it comes again that way, until it can be stored

    def _arrived(self, held: HeldKey, new: bool) -> None:
        self._searches.arrived(Item(held.room_id, held.version), held.key)
        in_use = self._ring.key(held.room_id)
        if in_use is not None:
            self._searches.arrived(Item(held.room_id), in_use)
        if new:
            self._changes.tell(held)

    async def _request(self, subject: str, body: bytes) -> bytes | None:
        """Ask, and return the reply; None: nobody answered in time."""
        try:
            return (await self._nc.request(subject, body, timeout=REQUEST_SECONDS)).data
        except (nats.errors.Error, TimeoutError, OSError):
            return None
