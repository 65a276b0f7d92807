"""The demo's subscribers: each is a client of its own, built on the subscriber's library."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack

from nats.aio.client import Client
from nats.aio.msg import Msg

from roomkeys.client import HeldKey, KeyMissing, RoomKeys
from roomkeys.client.envelope import read_envelope
from roomkeys.client.errors import DecryptionFailed
from worker.cli.demo.story import Reading
from worker.cli.terminal.connections import nats_connection
from worker.settings import Settings

_DEADLINE_SECONDS = 2.0


class Disk:
    """What a client keeps while it is away; a program of one's own would encrypt it."""

    def __init__(self) -> None:
        self._kept: list[HeldKey] = []

    async def load(self) -> Iterable[HeldKey]:
        """Return what was saved."""
        return list(self._kept)

    async def save(self, keys: Sequence[HeldKey]) -> None:
        """Save keys."""
        self._kept += keys


class Subscriber:
    """One account's client, in one room; `at_once` is what it could make of each message when it came.

    While it is offline it hears nothing; when it comes back it has what is on its disk, and catches up.
    """

    def __init__(self, account: str, room_id: str, settings: Settings) -> None:
        self.account = account
        self.envelopes: list[bytes] = []
        self.at_once: list[Reading] = []
        self._room_id = room_id
        self._settings = settings
        self._disk = Disk()
        self._came = asyncio.Condition()
        self._online = AsyncExitStack()
        self._client: Client | None = None
        self._keys: RoomKeys | None = None

    @property
    def is_online(self) -> bool:
        """Tell whether it is connected."""
        return self._client is not None

    @property
    def versions(self) -> set[int]:
        """Return which versions of the room's key it holds."""
        return set() if self._keys is None else set(self._keys.held(self._room_id))

    async def come(self, messages: str) -> None:
        """Come online, and hear the room's messages on this subject."""
        broker = await self._online.enter_async_context(nats_connection(self._settings))
        self._client = broker.client
        self._keys = await self._online.enter_async_context(self._keys_of(self._client, self.account))
        await self._client.subscribe(messages, cb=self._take_message)
        await self._client.flush()

    async def go(self) -> None:
        """Go offline."""
        self._client = None
        await self._online.aclose()

    async def hear_all(self) -> None:
        """Return when everything has been taken in that the server sent before this call."""
        if self._client is not None:
            await self._client.flush()

    async def catch_up(self, missed: Sequence[bytes]) -> list[Reading]:
        """Catch up with the keys, then read the messages that came meanwhile; return what came of it."""
        if self._keys is not None:
            await self._keys.caught_up()
        readings = [await self.reads(sealed) for sealed in missed]
        self.envelopes += missed
        self.at_once += readings
        return readings

    async def has_heard(self, messages: int) -> None:
        """Wait until so many messages have come."""
        async with self._came:
            await self._came.wait_for(lambda: len(self.at_once) >= messages)

    async def reads(self, sealed: bytes) -> Reading:
        """Return what it makes of a message, with the keys that it has or is given when it asks."""
        try:
            if self._keys is not None:
                text = await self._keys.open(self._room_id, sealed, deadline=_DEADLINE_SECONDS)
                return Reading(has_key=True, text=text.decode())
        except DecryptionFailed:
            return Reading(has_key=True, text=None)
        except KeyMissing:
            pass
        return Reading(has_key=False, text=None)

    async def in_the_end(self) -> list[Reading]:
        """Return what it makes of every message with the keys that it has now, or is given when it asks."""
        return [await self.reads(sealed) for sealed in self.envelopes]

    def _keys_of(self, client: Client, account: str) -> RoomKeys:
        return RoomKeys(client, account, self._settings.site_id, store=self._disk)

    async def _take_message(self, message: Msg) -> None:
        """Read a message with the keys that it holds: whoever is online was sent them before they were used."""
        held = read_envelope(message.data).version in self.versions
        reading = await self.reads(message.data) if held else Reading(has_key=False, text=None)
        async with self._came:
            self.envelopes.append(message.data)
            self.at_once.append(reading)
            self._came.notify_all()
