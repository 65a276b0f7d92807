"""The client of one account: keeps its room keys up to date, and opens and seals messages with them.

    nc = await nats.connect(..., max_reconnect_attempts=-1)
    async with RoomKeys(nc, "alice", "site-a") as keys:
        text = await keys.open(room_id, envelope)

The client first subscribes to the account's keys and notices and then fetches the keys in use, so that it misses
none. It fetches them again after every reconnect, and requests a single key when a message needs it. The connection
belongs to the caller: the client sets none of its callbacks, and detects reconnects by the connection's own counter.

This is the only file of the library that talks to NATS.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import uniform
from typing import Any, Final, Self

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from roomkeys import subjects
from roomkeys.backoff import Backoff
from roomkeys.client import protocol
from roomkeys.client.envelope import EncryptedMessage, SealedMessage, read_envelope, seal, unseal
from roomkeys.client.errors import InvalidRequest, NotRoomMember
from roomkeys.client.fetcher import KeyFetcher
from roomkeys.client.keyring import VERSIONS, HeldKey, KeyRing, KeyStore, StoredKeyRing
from roomkeys.client.listeners import KeyListeners
from roomkeys.client.membership import Memberships
from roomkeys.client.pending import PendingKeys
from roomkeys.client.resync import Resync
from roomkeys.keys import RoomKey, is_version
from roomkeys.messages.key_requests import Item
from roomkeys.tokens import is_token

log = logging.getLogger("roomkeys")

DEADLINE_SECONDS: Final = 10.0
"""How long `open`, `seal` and `key` wait for a key, unless the caller passes another deadline."""

_SPARE_BYTES: Final = 1024
"""Room that a request leaves in the broker's largest message for its headers."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """The times and sizes of one client. The times to retry and to check are averages: see `client_jitter`."""

    request_seconds: float = 5.0
    """How long to wait for a reply: a little longer than the key service waits for its database."""
    window_seconds: float = 0.010
    """How long to collect missing keys before they are requested as one batch."""
    first_retry_seconds: float = 0.4
    """The pause after the first failed request. It doubles with each further failure."""
    longest_retry_seconds: float = 8.0
    """The longest pause between two failed requests."""
    reconnect_check_seconds: float = 1.0
    """The time between two checks whether the connection was lost and restored."""
    unread_changes: int = 10_000
    """How many keys an iterator over changes queues; beyond this number the oldest are dropped."""

    def backoff(self) -> Backoff:
        """Return the backoff of one client: its factor is fixed, so that its requests share retries as well."""
        jitter = client_jitter()
        return Backoff(self.first_retry_seconds, self.longest_retry_seconds, spread=(jitter, jitter))


def client_jitter() -> float:
    """Return a factor for one client's times, so that clients that failed together do not retry together."""
    return uniform(0.5, 1.5)  # noqa: S311 - no secret


_DEFAULT_LIMITS: Final = ClientLimits()


class RoomKeys:
    """The room keys of one account, for as long as the context lasts. It is entered once."""

    def __init__(
        self,
        nc: Client,
        account: str,
        site: str,
        *,
        store: KeyStore | None = None,
        versions: int = VERSIONS,
        limits: ClientLimits = _DEFAULT_LIMITS,
    ) -> None:
        if not is_token(account) or not is_token(site):
            raise ValueError("account and site must be tokens: not empty, without dots, wildcards or white space")
        self.account = account
        self._nc = nc
        self._check_seconds = client_jitter() * limits.reconnect_check_seconds
        backoff = limits.backoff()
        self._listeners = KeyListeners(limits.unread_changes)
        self._pending = PendingKeys(backoff, window_seconds=limits.window_seconds)
        self._ring = KeyRing(versions)
        self._keys = StoredKeyRing(self._ring, store, self._pending.resolve, self._listeners.notify)
        request = partial(_request, nc, limits.request_seconds)
        self._memberships = Memberships()
        self._fetcher = KeyFetcher(request, account, site, self._keys, self._memberships, backoff)
        self._resync = Resync()
        self._reconnects = 0
        self._subscriptions: list[Subscription] = []
        self._running: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"RoomKeys({self.account}, {self._ring})"

    async def __aenter__(self) -> Self:
        """Load the stored keys, subscribe, and try once to fetch the keys in use; a failure is retried later."""
        await self._keys.load()
        self._reconnects = self._nc.stats["reconnects"]
        for subject, callback in (
            (subjects.subscription_update(self.account), self._on_notice),
            (subjects.room_key(self.account), self._on_key),
        ):
            self._subscriptions.append(await self._nc.subscribe(subject, cb=callback))
        self._running = asyncio.create_task(self._run())
        try:
            await self._wait_unless_closed(self._resync.attempted)
        except asyncio.CancelledError:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Unsubscribe and stop everything except the connection."""
        for subscription in self._subscriptions:
            with suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
            if not self._running.cancelled():
                self._running.result()

    async def open(self, room_id: str, envelope: SealedMessage, *, deadline: float = DEADLINE_SECONDS) -> bytes:
        """Open a message, given as JSON bytes or as a mapping; wait at most `deadline` seconds for its key.

        Raises `KeyMissing` if the key does not arrive, and `InvalidEnvelope` or `DecryptionFailed` if the message
        is malformed or was not sealed with that key.
        """
        sealed = read_envelope(envelope)
        return unseal(await self.key(room_id, sealed.version, deadline=deadline), sealed)

    async def seal(self, room_id: str, plaintext: bytes, *, deadline: float = DEADLINE_SECONDS) -> EncryptedMessage:
        """Seal a message with the room's newest key that is known to be in use. Raises `KeyMissing` as `open`."""
        return seal(await self.key(room_id, deadline=deadline), plaintext)

    async def key(self, room_id: str, version: int | None = None, *, deadline: float = DEADLINE_SECONDS) -> RoomKey:
        """Return a version of a room's key, or the one in use. Raises `KeyMissing` as `open`."""
        known = self._ring.key(room_id, version)
        if known is not None:
            return known
        if not is_token(room_id) or not (version is None or is_version(version)):
            raise InvalidRequest(room_id, version, retryable=False)
        if self._running is None:
            raise RuntimeError("RoomKeys is not entered: use `async with`")
        if version is None and self._memberships.has_left(room_id):
            raise NotRoomMember(room_id, None, retryable=False)
        return await self._pending.get(Item(room_id, version), deadline)

    def held(self, room_id: str) -> list[int]:
        """Return the versions of a room's key that the client has, in ascending order."""
        return self._ring.versions(room_id)

    def changes(self) -> AsyncGenerator[HeldKey, None]:
        """Return an iterator over the keys that arrive from now on; it ends when the client closes."""
        return self._listeners.iterate()

    def on_change(self, callback: Callable[[HeldKey], None]) -> Callable[[], None]:
        """Call `callback` with each key that arrives from now on; return a function that removes it."""
        return self._listeners.add_callback(callback)

    async def caught_up(self) -> None:
        """Wait until the client has everything that it missed before this call, or is closed."""
        self._check_reconnects()
        if not self._nc.is_connected:
            self._resync.request()  # keys are missed now, and the reconnect that shows it is still to come
        await self._wait_unless_closed(self._resync.complete)

    async def _wait_unless_closed(self, event: asyncio.Event) -> None:
        task = asyncio.create_task(event.wait())
        try:
            awaited: set[asyncio.Task[Any]] = {task} if self._running is None else {task, self._running}
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()

    async def _run(self) -> None:
        """Run the client's tasks until the connection is closed for good."""
        self._resync.request()
        async with asyncio.TaskGroup() as tasks:
            fetching = tasks.create_task(self._pending.serve(self._fetcher.fetch))
            syncing = tasks.create_task(self._resync.serve(self._sync))
            try:
                while not self._nc.is_closed:
                    await asyncio.sleep(self._check_seconds)
                    self._check_reconnects()
                log.warning("connection closed: %s receives no more keys", self.account)
            finally:
                self._pending.close()
                self._listeners.close()
                fetching.cancel()
                syncing.cancel()

    def _check_reconnects(self) -> None:
        """Request a resync if the connection was lost and restored since the last check."""
        reconnects = self._nc.stats["reconnects"]
        if reconnects != self._reconnects:
            self._reconnects = reconnects
            self._resync.request()

    async def _sync(self, requested: bool) -> float | None:
        return await self._fetcher.sync(self._nc.max_payload - _SPARE_BYTES, force=requested)

    async def _on_key(self, message: Msg) -> None:
        sent = protocol.decode_key_message(message.data)
        if sent is None:
            log.warning("ignored a message to %s that is not a room key", self.account)
        elif not await self._keys.add([sent.key], self._memberships.sent_at(sent.sent_ms)):
            self._resync.request()  # fetches the key again, until it can be stored

    async def _on_notice(self, message: Msg) -> None:
        notice = protocol.decode_notice(message.data)
        if notice is not None and self._memberships.hear(notice):
            self._ring.retract(notice.room_id)


async def _request(nc: Client, seconds: float, subject: str, body: bytes) -> bytes | None:
    try:
        return (await nc.request(subject, body, timeout=seconds)).data
    except (nats.errors.Error, TimeoutError, OSError):
        return None
