"""The client library against the key service on real servers."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator

import orjson
import pytest
from nats.aio.msg import Msg

from roomkeys import subjects
from roomkeys.client import RoomKey, RoomKeys
from roomkeys.client.envelope import seal
from roomkeys.client.errors import DecryptionFailed, InvalidEnvelope, NotRoomMember
from tests.harness.key_service import Asking, room, secret, service
from tests.harness.polling import PATIENCE, until
from tests.harness.site import Rig
from tests.harness.subscribers import key, listened, send


@pytest.fixture
async def asking(site_rig: Rig) -> AsyncIterator[Asking]:
    async with service(site_rig) as made:
        yield made


async def test_entering_fetches_more_rooms_than_fit_one_page(asking: Asking) -> None:
    rooms = [f"r{number:04}" for number in range(1201)]
    await asking.rooms(*(room(room_id, 3) for room_id in rooms), members=["bob"])
    heard = await listened(asking, subjects.keys_sync(asking.site))
    async with RoomKeys(asking.client, "bob", asking.site) as keys:
        assert [keys.held(room_id) for room_id in rooms] == [[3]] * 1201
    assert len(heard.bodies) == 3


async def test_a_late_sync_reply_does_not_replace_a_newer_key(asking: Asking) -> None:
    """The service reads the reply before the newer key is sent, and sends it afterwards."""
    requests: list[Msg] = []

    async def delay(message: Msg) -> None:
        requests.append(message)

    site = f"{asking.site}-slow"
    await asking.client.subscribe(subjects.keys_sync(site), cb=delay)
    entering = RoomKeys(asking.client, "bob", site)
    entered = asyncio.ensure_future(entering.__aenter__())
    await until(lambda: requests)
    await send(asking, "bob", ("r1", key("r1", 8)), ("r2", key("r2", 1)))
    await until(lambda: entering.held("r1"))
    (message,) = requests
    result = {"status": "ok", "privateKey": b64encode(secret("r1", 7)).decode(), "roomId": "r1", "version": 7}
    await message.respond(orjson.dumps({"results": [result]}))
    keys = await asyncio.wait_for(entered, PATIENCE)
    try:
        assert (keys.held("r1"), keys.held("r2")) == ([7, 8], [1])
        assert (await keys.seal("r1", b""))["version"] == 8
    finally:
        await keys.__aexit__(None, None, None)


async def test_a_member_opens_what_another_sealed_with_a_current_or_replaced_key(asking: Asking) -> None:
    await asking.rooms(room("r1", 7, past=[6]))
    async with (
        RoomKeys(asking.client, "alice", asking.site) as alice,
        RoomKeys(asking.client, "bob", asking.site) as bob,
    ):
        sealed = await alice.seal("r1", b"hello")
        assert sealed["version"] == 7
        assert await bob.open("r1", sealed) == b"hello"
        assert await bob.open("r1", orjson.dumps(sealed)) == b"hello"
        assert await bob.open("r1", seal(key("r1", 6), b"before")) == b"before"
        assert bob.held("r1") == [6, 7]
        with pytest.raises(DecryptionFailed):
            await bob.open("r1", seal(RoomKey(7, bytes(32)), b"forged"))
        with pytest.raises(InvalidEnvelope):
            await bob.open("r1", b"{}")


async def test_open_returns_as_soon_as_the_key_is_sent(asking: Asking) -> None:
    await asking.rooms(room("r1", 7))
    sealed = seal(key("r1", 8), b"early")
    heard = await listened(asking, subjects.keys_batch(asking.site))
    async with RoomKeys(asking.client, "bob", asking.site) as keys:
        opening = asyncio.ensure_future(keys.open("r1", sealed, deadline=PATIENCE))
        await until(lambda: heard.bodies)
        await send(asking, "bob", ("r1", key("r1", 8)))
        assert await opening == b"early"


async def test_keys_missed_at_once_are_requested_a_hundred_at_a_time(asking: Asking) -> None:
    rooms = [f"r{number}" for number in range(150)]
    await asking.rooms(*(room(room_id, 7, past=[6]) for room_id in rooms), members=["bob"])
    heard = await listened(asking, subjects.keys_batch(asking.site))
    async with RoomKeys(asking.client, "bob", asking.site) as keys:
        opening = [keys.open(room_id, seal(key(room_id, 6), room_id.encode())) for room_id in [*rooms, *rooms]]
        outsider = keys.open("nowhere", seal(key("nowhere", 1), b""))
        *opened, refused = await asyncio.gather(*opening, outsider, return_exceptions=True)
    assert opened == [room_id.encode() for room_id in [*rooms, *rooms]]
    assert isinstance(refused, NotRoomMember)
    assert [len(body["requests"]) for body in heard.bodies] == [100, 51]


async def test_seal_returns_as_soon_as_a_first_key_is_sent(asking: Asking) -> None:
    await asking.rooms({"_id": "bare"})
    heard = await listened(asking, subjects.keys_batch(asking.site))
    async with RoomKeys(asking.client, "bob", asking.site) as keys:
        sealing = asyncio.ensure_future(keys.seal("bare", b"first", deadline=PATIENCE))
        await until(lambda: heard.bodies)
        await send(asking, "bob", ("bare", key("bare", 0)))
        assert (await sealing)["version"] == 0
