"""Holding: stored first, told of afterwards, once; and nothing that could not be stored is held."""

import asyncio
import logging
from base64 import b64encode
from collections.abc import Iterable, Sequence

import pytest

from roomkeys.client.keyring import HeldKey, Holder, KeyRing
from roomkeys.client.listeners import KeyListeners
from roomkeys.keys import RoomKey


def key(version: int, room_id: str = "r1", *, in_use: bool = True) -> HeldKey:
    return HeldKey(room_id, RoomKey(version, bytes([version]) * 32), in_use)


class Store:
    """Keeps what it is given, and what the ring held at that moment."""

    def __init__(self, ring: KeyRing, *kept: HeldKey) -> None:
        self.ring = ring
        self.kept = list(kept)
        self.held_meanwhile: list[list[int]] = []
        self.fails = False

    async def load(self) -> Iterable[HeldKey]:
        return self.kept

    async def save(self, keys: Sequence[HeldKey]) -> None:
        self.held_meanwhile.append(self.ring.versions("r1"))
        await asyncio.sleep(0)
        if self.fails:
            raise OSError(f"disk full at {keys[0].key.secret!r}")
        self.kept += keys


class Told:
    def __init__(self) -> None:
        self.keys: list[tuple[int, bool]] = []

    def arrived(self, held: HeldKey, new: bool) -> None:
        self.keys.append((held.version, new))


async def test_a_key_is_stored_before_it_is_held_and_held_before_it_is_told_of() -> None:
    ring, told = KeyRing(), Told()
    store = Store(ring)
    holder = Holder(ring, store, told.arrived)
    assert await holder.hold([key(1), key(2), key(1)])
    assert store.held_meanwhile == [[]]
    assert (store.kept, told.keys) == ([key(1), key(2)], [(1, True), (2, True)])


async def test_what_is_known_is_neither_stored_nor_told_again() -> None:
    ring, told = KeyRing(), Told()
    store = Store(ring)
    holder = Holder(ring, store, told.arrived)
    await asyncio.gather(*(holder.hold([key(1, in_use=False)]) for _ in range(5)))
    await holder.hold([key(1)])
    await holder.hold([key(1, in_use=False)])
    assert store.kept == [key(1, in_use=False), key(1)]
    assert told.keys == [(1, True), (1, False)]


async def test_what_cannot_be_stored_is_not_held_and_the_log_quotes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ring, told = KeyRing(), Told()
    store = Store(ring)
    holder = Holder(ring, store, told.arrived)
    store.fails = True
    assert not await holder.hold([key(1)])
    assert (ring.versions("r1"), told.keys) == ([], [])
    assert [record.message for record in caplog.records] == ["1 keys were not stored: OSError"]
    store.fails = False
    assert await holder.hold([key(1)])
    assert (ring.versions("r1"), told.keys) == ([1], [(1, True)])


async def test_what_was_stored_is_held_from_the_start_and_is_no_news() -> None:
    ring, told = KeyRing(), Told()
    await Holder(ring, Store(ring, key(1), key(2)), told.arrived).load()
    assert (ring.in_use(), told.keys) == ({"r1": 2}, [])


async def test_another_key_for_a_version_is_refused_with_a_warning_that_shows_neither(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ring, told = KeyRing(), Told()
    holder = Holder(ring, None, told.arrived)
    other = HeldKey("r1", RoomKey(1, b"?" * 32))
    await holder.hold([key(1)])
    assert await holder.hold([other])
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("roomkeys", logging.WARNING)
    assert record.message == "another key for room r1 version 1: the first is kept"
    for secret in (key(1).key.secret, other.key.secret):
        assert b64encode(secret).decode() not in record.message
    assert told.keys == [(1, True)]


async def test_everybody_who_follows_gets_every_key_in_order_until_the_end() -> None:
    changes = KeyListeners()
    first, second = changes.follow(), changes.follow()
    for version in (1, 2):
        changes.tell(key(version))
    changes.close()
    assert [held.version async for held in first] == [1, 2]
    assert [held.version async for held in second] == [1, 2]
    assert [held.version async for held in changes.follow()] == []


async def test_a_callback_is_called_until_it_is_taken_back_and_one_that_fails_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    changes = KeyListeners()
    called: list[int] = []

    def fails(held: HeldKey) -> None:
        raise ValueError(held.key.secret)

    changes.call(fails)
    end = changes.call(lambda held: called.append(held.version))
    changes.tell(key(1))
    end()
    changes.tell(key(2))
    assert called == [1]
    assert {record.message for record in caplog.records} == {"a callback failed: ValueError"}


async def test_an_iterator_that_is_not_read_keeps_the_newest_keys_only() -> None:
    changes = KeyListeners(most_unread=3)
    slow = changes.follow()
    for version in range(10):
        changes.tell(key(version))
    assert [(await anext(slow)).version for _ in range(3)] == [7, 8, 9]
