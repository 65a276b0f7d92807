"""The subscribers of the demo: each is a separate client, built on the client library."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg

from roomkeys.client import HeldKey, KeyMissing, RoomKeys
from roomkeys.client.envelope import read_envelope
from roomkeys.client.errors import DecryptionFailed
from worker.cli.demo.story import Reading
from worker.cli.terminal.connections import nats_connection
from worker.settings import Settings

_DEADLINE_SECONDS: Final = 2.0


@dataclass
class _Disk:
    """The keys that a client keeps while it is offline. A real program would encrypt them."""

    saved: list[HeldKey] = field(default_factory=list)

    async def load(self) -> Iterable[HeldKey]:
        return list(self.saved)

    async def save(self, keys: Sequence[HeldKey]) -> None:
        self.saved += keys


@dataclass(eq=False)
class Subscriber:
    """The client of one account in one room.

    `envelopes` are the sealed messages that it has received; `on_arrival` is what it could read of each at that
    time. While it is offline it receives nothing, but it keeps its keys.
    """

    account: str
    room_id: str
    settings: Settings
    envelopes: list[bytes] = field(default_factory=list)
    on_arrival: list[Reading] = field(default_factory=list)
    _disk: _Disk = field(default_factory=_Disk)
    _received: asyncio.Condition = field(default_factory=asyncio.Condition)
    _online: AsyncExitStack = field(default_factory=AsyncExitStack)
    _client: Client | None = None
    _keys: RoomKeys = field(init=False)  # from the first `connect` on

    @property
    def is_online(self) -> bool:
        """Tell whether it is connected."""
        return self._client is not None

    @property
    def versions(self) -> set[int]:
        """Return the versions of the room's key that it has."""
        return set(self._keys.held(self.room_id))

    async def connect(self, messages: str) -> None:
        """Connect, and subscribe to the room's messages on the subject `messages`."""
        broker = await self._online.enter_async_context(nats_connection(self.settings))
        self._client = broker.client
        self._keys = await self._online.enter_async_context(self._keys_of(self._client, self.account))
        await self._client.subscribe(messages, cb=self._receive)
        await self._client.flush()

    async def disconnect(self) -> None:
        """Disconnect."""
        self._client = None
        await self._online.aclose()

    async def flush(self) -> None:
        """Return once everything has been received that the server sent before this call."""
        if self._client is not None:
            await self._client.flush()

    async def catch_up(self, missed: Sequence[bytes]) -> list[Reading]:
        """Fetch the keys that are missing, then read the messages that were missed; return the readings."""
        await self._keys.caught_up()
        readings = [await self.read(sealed) for sealed in missed]
        self.envelopes += missed
        self.on_arrival += readings
        return readings

    async def until_received(self, messages: int) -> None:
        """Wait until this many messages have been received."""
        async with self._received:
            await self._received.wait_for(lambda: len(self.on_arrival) >= messages)

    async def read(self, sealed: bytes) -> Reading:
        """Try to read a message; a key that is missing is fetched."""
        try:
            text = await self._keys.open(self.room_id, sealed, deadline=_DEADLINE_SECONDS)
        except DecryptionFailed:
            return Reading(has_key=True, text=None)
        except KeyMissing:
            return Reading(has_key=False, text=None)
        return Reading(has_key=True, text=text.decode())

    async def read_everything(self) -> list[Reading]:
        """Try again to read every message; keys that are missing are fetched."""
        return [await self.read(sealed) for sealed in self.envelopes]

    def _keys_of(self, client: Client, account: str) -> RoomKeys:
        return RoomKeys(client, account, self.settings.site_id, store=self._disk)

    async def _receive(self, message: Msg) -> None:
        """Read a message with the keys it has: a client that is online gets a key before the key is used."""
        has_key = read_envelope(message.data).version in self.versions
        reading = await self.read(message.data) if has_key else Reading(has_key=False, text=None)
        async with self._received:
            self.envelopes.append(message.data)
            self.on_arrival.append(reading)
            self._received.notify_all()
