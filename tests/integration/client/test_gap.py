"""A client that comes back while a key is on its way: it holds that key, too."""

import asyncio
from typing import Any

import pytest

from roomkeys.client import RoomKeys
from store.transaction import commit
from tests.harness.site import PATIENCE, Rig

ROOM = {"roomId": "r1", "name": "general", "users": ["bob", "carol"], "requesterAccount": "alice"}


async def test_who_listens_after_a_key_was_sent_and_asks_before_it_is_used_holds_it_when_it_is(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers name the key in use until the room settles, and what was sent is not sent again."""
    sent, settles = asyncio.Event(), asyncio.Event()

    async def held(*args: Any) -> None:
        sent.set()
        await settles.wait()
        await commit(*args)

    await site_rig.users("alice", "bob", "carol")
    async with site_rig.worker():
        assert (await site_rig.ask("create", ROOM))["status"] == "ok"
        monkeypatch.setattr("store.writes.settle.commit", held)
        body = {"roomId": "r1", "requester": "alice", "account": "carol"}
        removed = await site_rig.publish("member.remove", body)
        await asyncio.wait_for(sent.wait(), PATIENCE)
        async with RoomKeys(site_rig.nc, "bob", site_rig.site) as bob:
            assert bob.held("r1") == [0]
            settles.set()
            assert (await site_rig.result(removed))["status"] == "ok"
            await asyncio.wait_for(bob.caught_up(), PATIENCE)
            assert bob.held("r1") == [0, 1]
            assert (await bob.seal("r1", b"without carol"))["version"] == 1
