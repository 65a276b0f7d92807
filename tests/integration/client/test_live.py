"""The client library with a real worker: members open every message that they may."""

import asyncio

import pytest

from roomkeys.client import EncryptedMessage, RoomKeys
from roomkeys.client.envelope import seal
from roomkeys.client.errors import NotRoomMember
from roomkeys.keys import RoomKey
from tests.harness import events
from tests.harness.polling import PATIENCE, until
from tests.harness.site import Rig

ROOM = events.create("r1", "bob", "carol")
ROTATIONS = 12


async def sealed_now(rig: Rig) -> EncryptedMessage:
    """Seal a message as other services do: with the key in use according to the room's document."""
    key = (await rig.room("r1"))["encKey"]
    return seal(RoomKey(key["ver"], key["priv"]), b"version %d" % key["ver"])


async def test_clients_connecting_during_rotations_open_every_message(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob", "carol")
    messages: list[EncryptedMessage] = []

    async def send_and_rotate() -> None:
        for _ in range(ROTATIONS):
            messages.append(await sealed_now(site_rig))
            await site_rig.ask("key.rotate", events.rotate("r1"))
        messages.append(await sealed_now(site_rig))

    async def connect_late(after: int) -> list[bytes]:
        await until(lambda: len(messages) > after, lambda: len(messages))
        async with RoomKeys(site_rig.nc, "bob", site_rig.site) as keys:
            await until(lambda: len(messages) > ROTATIONS, lambda: len(messages))
            return await asyncio.gather(*(keys.open("r1", message, deadline=PATIENCE) for message in messages))

    async with site_rig.worker():
        await site_rig.ask("create", ROOM)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send_and_rotate())
            late = [tasks.create_task(connect_late(after)) for after in range(ROTATIONS)]
    expected = [b"version %d" % version for version in range(ROTATIONS + 1)]
    assert [task.result() for task in late] == [expected] * ROTATIONS


async def test_a_removed_member_opens_earlier_messages_and_no_later_ones(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob", "carol")
    async with site_rig.worker():
        await site_rig.ask("create", ROOM)
        async with RoomKeys(site_rig.nc, "bob", site_rig.site) as bob:
            before = await bob.seal("r1", b"before")
            await site_rig.ask("member.remove", events.remove("r1", account="bob"))
            after = await sealed_now(site_rig)
            assert await bob.open("r1", before) == b"before"
            with pytest.raises(NotRoomMember):
                await bob.open("r1", after)
        async with RoomKeys(site_rig.nc, "carol", site_rig.site) as carol:
            assert carol.held("r1") == [1]
            assert [await carol.open("r1", item) for item in (before, after)] == [b"before", b"version 1"]
