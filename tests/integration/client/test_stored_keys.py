"""The client library: stored keys, change listeners, and closing."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from roomkeys import subjects
from roomkeys.client import HeldKey, RoomKeys
from roomkeys.client.envelope import seal
from roomkeys.client.errors import ClientClosed, KeyStoreFailed
from tests.harness.key_service import Asking, room, service
from tests.harness.polling import PATIENCE, until
from tests.harness.site import Rig
from tests.harness.subscribers import Store, key, listened, send


@pytest.fixture
async def asking(site_rig: Rig) -> AsyncIterator[Asking]:
    async with service(site_rig) as made:
        yield made


async def test_a_client_with_a_store_requests_only_newer_keys(asking: Asking) -> None:
    await asking.rooms(room("r1", 3), room("r2", 5))
    store = Store(HeldKey("r1", key("r1", 3)), HeldKey("r2", key("r2", 4)))
    heard = await listened(asking, subjects.keys_sync(asking.site))
    async with RoomKeys(asking.client, "bob", asking.site, store=store) as keys:
        assert (keys.held("r1"), keys.held("r2")) == ([3], [4, 5])
    assert [item.version for item in store.saved] == [5]
    assert heard.bodies == [{"have": {"r1": 3, "r2": 4}}]


async def test_a_key_is_stored_before_listeners_are_notified(asking: Asking) -> None:
    store = Store()
    async with RoomKeys(asking.client, "bob", asking.site, store=store) as keys:
        saved_when_notified: list[list[int]] = []
        keys.on_change(lambda _: saved_when_notified.append([item.version for item in store.saved]))
        changes = keys.changes()
        await send(asking, "bob", *(("r1", key("r1", version)) for version in (1, 2, 1)))
        changed = [await asyncio.wait_for(anext(changes), PATIENCE) for _ in range(2)]
    assert [item.version for item in changed] == [1, 2]
    assert saved_when_notified == [[1], [1, 2]]


async def test_a_key_that_cannot_be_stored_is_not_used_until_it_can(asking: Asking) -> None:
    await asking.rooms(room("r1", 7, past=[6]))
    store = Store()
    store.fails = True
    async with RoomKeys(asking.client, "bob", asking.site, store=store) as keys:
        with pytest.raises(KeyStoreFailed):
            await keys.open("r1", seal(key("r1", 6), b"x"), deadline=0.3)
        assert keys.held("r1") == []
        store.fails = False
        assert await keys.open("r1", seal(key("r1", 6), b"x"), deadline=PATIENCE) == b"x"
        await asyncio.wait_for(keys.caught_up(), PATIENCE)
        assert keys.held("r1") == [6, 7]


async def test_a_sent_key_that_could_not_be_stored_is_fetched_again(asking: Asking) -> None:
    await asking.rooms(room("r1", 7))
    store = Store()
    async with RoomKeys(asking.client, "bob", asking.site, store=store) as keys:
        await asking.database["rooms"].update_one({"_id": "r1"}, {"$set": room("r1", 8, past=[7])})
        store.fails = True
        await send(asking, "bob", ("r1", key("r1", 8)))
        await until(lambda: store.refused)
        assert keys.held("r1") == [7]
        store.fails = False
        await until(lambda: keys.held("r1") == [7, 8], lambda: keys.held("r1"))


async def test_listeners_see_a_key_once_even_if_it_is_announced_as_in_use_later(asking: Asking) -> None:
    async with RoomKeys(asking.client, "bob", asking.site) as keys:
        changed: list[int] = []
        keys.on_change(lambda held: changed.append(held.version))
        await asking.rooms(room("r1", 7))
        assert await keys.key("r1", 7) == await keys.key("r1") == key("r1", 7)
    assert changed == [7]


async def test_leaving_ends_iterators_and_waits_and_keeps_the_connection_open(asking: Asking) -> None:
    await asking.rooms(room("r1", 7))
    async with RoomKeys(asking.client, "bob", asking.site) as keys:
        changes = keys.changes()
        opening = asyncio.ensure_future(keys.key("r1", 9, deadline=PATIENCE))
        await asyncio.sleep(0)
    assert [item async for item in changes] == []
    with pytest.raises(ClientClosed):
        await opening
    with pytest.raises(ClientClosed):
        await keys.key("r1", 8)
    assert asking.client.is_connected
    await send(asking, "bob", ("r1", key("r1", 8)))
    assert keys.held("r1") == [7]
    assert await keys.key("r1", 7) == key("r1", 7)
