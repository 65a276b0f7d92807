"""A client that connects while a room rotates."""

import asyncio
from typing import Any

import pytest

from roomkeys.client import RoomKeys
from store.transaction import commit
from tests.harness import events
from tests.harness.site import PATIENCE, Rig

ROOM = events.create("r1", "bob", "carol")


async def test_client_connecting_mid_rotation_gets_the_new_key(site_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies contain the old key until the room settles, and the new key is not sent a second time."""
    sent, may_settle = asyncio.Event(), asyncio.Event()

    async def delayed_commit(*args: Any) -> None:
        sent.set()
        await may_settle.wait()
        await commit(*args)

    await site_rig.users("alice", "bob", "carol")
    async with site_rig.worker():
        assert (await site_rig.ask("create", ROOM))["status"] == "ok"
        monkeypatch.setattr("store.writes.settle.commit", delayed_commit)
        body = events.remove("r1", account="carol")
        removed = await site_rig.publish("member.remove", body)
        await asyncio.wait_for(sent.wait(), PATIENCE)
        async with RoomKeys(site_rig.nc, "bob", site_rig.site) as bob:
            assert bob.held("r1") == [0]
            may_settle.set()
            assert (await site_rig.result(removed))["status"] == "ok"
            await asyncio.wait_for(bob.caught_up(), PATIENCE)
            assert bob.held("r1") == [0, 1]
            assert (await bob.seal("r1", b"without carol"))["version"] == 1
