"""The stored key ring: saves a key, then adds it, then hands it out; adds none that could not be saved."""

import asyncio
import logging
from base64 import b64encode
from collections.abc import Iterable, Sequence

import pytest

from roomkeys.backoff import Backoff
from roomkeys.client.keyring import HeldKey, KeyRing, StoredKeyRing
from roomkeys.client.listeners import KeyListeners
from roomkeys.client.pending import PendingKeys
from roomkeys.keys import RoomKey
from roomkeys.messages.key_requests import Item


def key(version: int, room_id: str = "r1", *, in_use: bool = True) -> HeldKey:
    return HeldKey(room_id, RoomKey(version, bytes([version]) * 32), in_use)


class Store:
    """Keeps what it is given, and which versions the ring had at that moment."""

    def __init__(self, ring: KeyRing, *saved: HeldKey) -> None:
        self.ring = ring
        self.saved = list(saved)
        self.ring_at_save: list[list[int]] = []
        self.fails = False

    async def load(self) -> Iterable[HeldKey]:
        return self.saved

    async def save(self, keys: Sequence[HeldKey]) -> None:
        self.ring_at_save.append(self.ring.versions("r1"))
        await asyncio.sleep(0)
        if self.fails:
            raise OSError(f"disk full at {keys[0].key.secret!r}")
        self.saved += keys


class Client:
    """A stored key ring with all that hangs on it; `notified` are the versions that listeners saw."""

    def __init__(self, *saved: HeldKey, has_store: bool = True) -> None:
        self.ring = KeyRing()
        self.store = Store(self.ring, *saved)
        self.pending = PendingKeys(Backoff(0, 0), window_seconds=0)
        self.notified: list[int] = []
        listeners = KeyListeners(10)
        listeners.add_callback(self._notify)
        store = self.store if has_store else None
        self.keys = StoredKeyRing(self.ring, store, self.pending.resolve, listeners.notify)

    def _notify(self, added: HeldKey) -> None:
        assert added.version in self.ring.versions("r1"), "notified before the ring had the key"
        self.notified.append(added.version)


async def test_a_key_is_saved_before_it_is_added_and_added_before_listeners_see_it() -> None:
    client = Client()
    assert await client.keys.add([key(1), key(2), key(1)])
    assert client.store.ring_at_save == [[]]
    assert (client.store.saved, client.notified) == ([key(1), key(2)], [1, 2])


async def test_a_known_key_is_neither_saved_nor_announced_again() -> None:
    """It is saved once more when it is announced as in use."""
    client = Client()
    await asyncio.gather(*(client.keys.add([key(1, in_use=False)]) for _ in range(5)))
    await client.keys.add([key(1)])
    await client.keys.add([key(1, in_use=False)])
    assert client.store.saved == [key(1, in_use=False), key(1)]
    assert client.notified == [1]


async def test_a_key_that_cannot_be_saved_is_not_added_and_the_log_does_not_quote_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = Client()
    client.store.fails = True
    assert not await client.keys.add([key(1)])
    assert (client.ring.versions("r1"), client.notified) == ([], [])
    assert caplog.messages == ["could not store 1 keys: OSError"]
    client.store.fails = False
    assert await client.keys.add([key(1)])
    assert (client.ring.versions("r1"), client.notified) == ([1], [1])


async def test_loaded_keys_are_in_the_ring_without_notifying_listeners() -> None:
    client = Client(key(1), key(2))
    await client.keys.load()
    assert (client.ring.in_use(), client.notified) == ({"r1": 2}, [])


async def test_a_conflicting_key_is_refused_with_a_warning_that_quotes_neither(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = Client(has_store=False)
    other = HeldKey("r1", RoomKey(1, b"?" * 32))
    await client.keys.add([key(1)])
    assert await client.keys.add([other])
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("roomkeys", logging.WARNING)
    assert record.message == "received another key for room r1 version 1: keeping the first"
    for secret in (key(1).key.secret, other.key.secret):
        assert b64encode(secret).decode() not in record.message
    assert client.notified == [1]


async def test_a_key_goes_to_those_who_wait_for_its_version_or_for_the_key_in_use() -> None:
    client = Client()
    by_version, in_use = (asyncio.ensure_future(client.pending.get(Item("r1", one), 20)) for one in (1, None))
    await asyncio.sleep(0)
    await client.keys.add([key(1, in_use=False)])
    assert await by_version == key(1).key
    assert not in_use.done()
    await client.keys.add([key(1)])
    assert await in_use == key(1).key
    assert client.notified == [1]
