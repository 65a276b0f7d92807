"""The client library when its account is removed from a room and added again, with a real worker."""

import asyncio

import nats
import pytest

from roomkeys.client import RoomHasNoKey, RoomKeys
from roomkeys.client.errors import NotRoomMember
from tests.harness import events
from tests.harness.polling import PATIENCE, until
from tests.harness.proxy import Chunk, proxied
from tests.harness.site import Rig
from tests.harness.subscribers import Store

ROOM = events.create("r1", "bob", "carol")


async def remove_bob(rig: Rig) -> None:
    assert (await rig.ask("member.remove", events.remove("r1", account="bob")))["status"] == "ok"


async def refused(keys: RoomKeys, deadline: float = PATIENCE) -> NotRoomMember | None:
    try:
        await keys.seal("r1", b"after", deadline=deadline)
    except NotRoomMember as error:
        return error
    return None


async def until_refused(keys: RoomKeys) -> NotRoomMember:
    async with asyncio.timeout(PATIENCE):
        while (error := await refused(keys)) is None:  # noqa: ASYNC110 - the notice is on its way
            await asyncio.sleep(0.005)
    return error


async def test_a_removed_member_seals_no_more_until_it_is_added_again(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob", "carol")
    async with (
        site_rig.worker(),
        RoomKeys(site_rig.nc, "bob", site_rig.site) as bob,
        RoomKeys(site_rig.nc, "carol", site_rig.site) as carol,
    ):
        await site_rig.ask("create", ROOM)
        before = await bob.seal("r1", b"before")
        await remove_bob(site_rig)
        error = await until_refused(bob)
        assert (error.reason, error.retryable, error.room_id) == ("not_room_member", False, "r1")
        assert await bob.open("r1", before) == b"before"
        assert (await carol.seal("r1", b"without bob"))["version"] == 1
        await site_rig.ask("member.add", events.add("r1", "bob"))
        again = await bob.seal("r1", b"again", deadline=PATIENCE)
        assert again["version"] == 1
        assert await carol.open("r1", again) == b"again"
        assert bob.held("r1") == [0, 1]


async def test_a_removal_is_heard_without_a_key_service(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob", "carol")
    async with site_rig.worker(key_service=False), RoomKeys(site_rig.nc, "bob", site_rig.site) as bob:
        await site_rig.ask("create", ROOM)
        assert (await bob.seal("r1", b"before", deadline=PATIENCE))["version"] == 0
        await remove_bob(site_rig)
        await until_refused(bob)
        await site_rig.ask("member.add", events.add("r1", "bob"))
        assert (await bob.seal("r1", b"again", deadline=PATIENCE))["version"] == 1


async def test_a_removal_is_found_out_after_a_restart_with_stored_keys(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob", "carol")
    store = Store()
    async with site_rig.worker():
        async with RoomKeys(site_rig.nc, "bob", site_rig.site, store=store) as bob:
            await site_rig.ask("create", ROOM)
            before = await bob.seal("r1", b"before", deadline=PATIENCE)
        await remove_bob(site_rig)
        async with RoomKeys(site_rig.nc, "bob", site_rig.site, store=Store(*store.saved)) as bob:
            assert await refused(bob) is not None
            assert await bob.open("r1", before) == b"before"


async def test_a_removal_while_the_client_was_disconnected_is_found_out_afterwards(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob", "carol")
    may_pass = asyncio.Event()

    async def hold(chunk: Chunk) -> bytes:
        await may_pass.wait()
        return chunk.data

    async with (
        site_rig.worker(),
        proxied(site_rig.settings.nats_url[0]) as proxy,
        await nats.connect(
            proxy.url, max_reconnect_attempts=-1, reconnect_time_wait=0.02, connect_timeout=PATIENCE
        ) as client,
        RoomKeys(client, "bob", site_rig.site) as bob,
    ):
        await site_rig.ask("create", ROOM)
        assert (await bob.seal("r1", b"before", deadline=PATIENCE))["version"] == 0
        proxy.fault = hold
        proxy.cut()
        await until(lambda: not client.is_connected)
        await remove_bob(site_rig)
        may_pass.set()
        await asyncio.wait_for(bob.caught_up(), PATIENCE)
        assert await refused(bob) is not None
        await site_rig.ask("member.add", events.add("r1", "bob"))
        assert (await bob.seal("r1", b"again", deadline=PATIENCE))["version"] == 1


async def test_a_dm_has_no_key_and_seal_says_so_at_once(site_rig: Rig) -> None:
    """Every other answer would have the program wait for a key that never comes."""
    await site_rig.users("alice", "bob", "helper.bot")
    async with site_rig.worker():
        for room_id, other in (("d1", "bob"), ("d2", "helper.bot")):
            assert (await site_rig.ask("create", events.create(room_id, other, name="")))["status"] == "ok"
        async with RoomKeys(site_rig.nc, "alice", site_rig.site) as alice:
            for room_id in ("d1", "d2"):
                with pytest.raises(RoomHasNoKey) as raised:
                    await asyncio.wait_for(alice.seal(room_id, b"hello", deadline=PATIENCE), PATIENCE / 2)
                assert not raised.value.retryable
                assert "a dm never has one" in str(raised.value)
