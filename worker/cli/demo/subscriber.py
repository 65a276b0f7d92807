"""The subscribers of the demo: each is a separate client, built on the client library."""

from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

from nats.aio.client import Client
from nats.aio.subscription import Subscription

from roomkeys.client import HeldKey, KeyMissing, RoomKeys
from roomkeys.client.envelope import read_envelope
from roomkeys.client.errors import DecryptionFailed
from worker.cli.demo.story import Reading
from worker.cli.terminal.connections import nats_connection
from worker.settings import Settings

_DEADLINE_SECONDS: Final = 2.0


class _Disk(list[HeldKey]):
    """The keys that a client keeps while it is offline. A real program would encrypt them."""

    async def load(self) -> Iterable[HeldKey]:
        return self

    async def save(self, keys: Sequence[HeldKey]) -> None:
        self.extend(keys)


@dataclass(eq=False)
class Subscriber:
    """The client of one account in one room.

    `envelopes` are the sealed messages that it has received; `on_arrival` is what it could read of each at that
    time. While it is offline it has no `client` and receives nothing, but it keeps its keys.
    """

    account: str
    room_id: str
    settings: Settings
    envelopes: list[bytes] = field(default_factory=list)
    on_arrival: list[Reading] = field(default_factory=list)
    client: Client | None = None
    _disk: _Disk = field(default_factory=_Disk)
    _online: AsyncExitStack = field(default_factory=AsyncExitStack)
    _keys: RoomKeys = field(init=False)  # from the first `connect` on
    _messages: Subscription = field(init=False)

    @property
    def versions(self) -> set[int]:
        """Return the versions of the room's key that it has."""
        return set(self._keys.held(self.room_id))

    async def connect(self, messages: str) -> None:
        """Connect, and subscribe to the room's messages on the subject `messages`."""
        broker = await self._online.enter_async_context(nats_connection(self.settings))
        self.client = broker.client
        self._keys = await self._online.enter_async_context(
            RoomKeys(self.client, self.account, self.settings.site_id, store=self._disk)
        )
        self._messages = await self.client.subscribe(messages)
        await self.client.flush()

    async def disconnect(self) -> None:
        """Disconnect."""
        self.client = None
        await self._online.aclose()

    async def catch_up(self, missed: Sequence[bytes]) -> list[Reading]:
        """Fetch the keys that are missing, then read the messages that were missed; return the readings."""
        await self._keys.caught_up()
        readings = [await self.read(sealed) for sealed in missed]
        self.envelopes += missed
        self.on_arrival += readings
        return readings

    async def receive(self) -> Reading:
        """Wait for a message, and read it with the keys it has: online, it gets a key before the key is used."""
        sealed = (await self._messages.next_msg(timeout=None)).data
        has_key = read_envelope(sealed).version in self.versions
        self.envelopes.append(sealed)
        self.on_arrival.append(await self.read(sealed) if has_key else Reading(has_key=False, text=None))
        return self.on_arrival[-1]

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
