"""What changes during the rollout of a large room's key: other rooms, the stream, the key, and the room itself."""

import asyncio
from typing import Any

import pytest

from roomkeys.subjects import events_stream, events_subjects
from store.writes.settle import settle
from tests.harness import events
from tests.harness.gates import PageGate
from tests.harness.site import Rig
from worker.pipeline.rollouts.large_rooms import LargeRooms

MEMBERS = [f"m{number}" for number in range(8)]


@pytest.fixture(autouse=True)
def small_limits(site_rig: Rig) -> None:
    """Make a room of five large: a page has three accounts and a window two."""
    site_rig.limit(large_room_members=4, page_accounts=3, window_accounts=2)


async def test_pass_that_ends_while_another_room_settles_is_seen_at_once(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_rig.limit(follow_s=1000.0, tidy_s=1000.0)
    async with site_rig.worker(partitions=1):
        await site_rig.users("alice", *MEMBERS)
        await site_rig.ask("create", events.create("one", *MEMBERS))
        await site_rig.ask("create", events.create("two", *MEMBERS))
        gates = {name: PageGate(monkeypatch, name) for name in ("one", "two")}
        second_over, passing = asyncio.Event(), LargeRooms._roll_out

        async def watched(self: LargeRooms, room_id: str, *args: Any) -> None:
            await passing(self, room_id, *args)
            if room_id == "two":
                second_over.set()

        async def slow(*args: Any, **kwargs: Any) -> None:
            """Settle the first room and, before that is known, let the pass of the second one end."""
            await settle(*args, **kwargs)
            gates["two"].released.set()
            await asyncio.wait_for(second_over.wait(), 30)

        monkeypatch.setattr(LargeRooms, "_roll_out", watched)
        asked = [await site_rig.publish("key.rotate", events.rotate(name)) for name in ("one", "two")]
        for gate in gates.values():
            await gate.until_reached()
        monkeypatch.setattr("worker.pipeline.writer.settle", slow)
        gates["one"].released.set()
        assert (await site_rig.result(asked[0]))["status"] == "ok"
        assert (await site_rig.result(asked[1], 20))["status"] == "ok"


async def test_stream_recreated_during_a_pass_loses_no_result(site_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async with site_rig.worker(partitions=1):
        await site_rig.users("alice", *MEMBERS)
        await site_rig.ask("create", events.create("big", *MEMBERS))
        gate = PageGate(monkeypatch, "big")
        asked = await site_rig.publish("key.rotate", events.rotate("big"))  # sequence 2
        await gate.until_reached()
        gate.reached.clear()
        jetstream = site_rig.nc.jetstream()
        await jetstream.delete_stream(events_stream(site_rig.site))
        await jetstream.add_stream(name=events_stream(site_rig.site), subjects=[events_subjects(site_rig.site)])
        await gate.until_reached()  # the lease is taken again: the pass starts over
        assert (await site_rig.ask("create", events.create("r1", "m1")))["status"] == "ok"  # sequence 1
        second = await site_rig.publish("create", events.create("r2", "m1"))  # 2, as the gated entry
        try:
            assert (await site_rig.result(second, 20))["status"] == "ok"
        finally:
            gate.released.set()
        assert (await site_rig.result(asked))["status"] == "ok"


async def test_key_set_by_another_program_during_a_pass_is_never_lowered(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site_rig.worker(partitions=1):
        await site_rig.users("alice", *MEMBERS)
        await site_rig.ask("create", events.create("big", *MEMBERS))
        gate = PageGate(monkeypatch, "big")
        asked = [await site_rig.publish("key.rotate", events.rotate("big"))]
        await gate.until_reached()
        await site_rig.db.rooms.update_one({"_id": "big"}, {"$set": {"encKey": {"priv": b"f" * 32, "ver": 50}}})
        asked.append(await site_rig.publish("key.rotate", events.rotate("big")))
        asked.append(await site_rig.publish("create", events.create("small", "m1")))
        assert (await site_rig.result(asked[2]))["status"] == "ok"
        gate.released.set()
        for one in asked:
            assert (await site_rig.result(one))["status"] == "ok"
        assert (await site_rig.room("big"))["encKey"]["ver"] > 50


async def test_key_set_by_another_program_is_followed_by_a_higher_one(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, but no event of the room follows before the pass ends."""
    async with site_rig.worker(partitions=1):
        await site_rig.users("alice", *MEMBERS)
        await site_rig.ask("create", events.create("big", *MEMBERS))
        gate = PageGate(monkeypatch, "big")
        asked = await site_rig.publish("key.rotate", events.rotate("big"))
        await gate.until_reached()
        await site_rig.db.rooms.update_one({"_id": "big"}, {"$set": {"encKey": {"priv": b"f" * 32, "ver": 50}}})
        gate.released.set()
        assert (await site_rig.result(asked))["status"] == "ok"
        assert (await site_rig.ask("key.rotate", events.rotate("big")))["status"] == "ok"
        assert (await site_rig.room("big"))["encKey"]["ver"] > 50


async def test_room_recreated_during_a_pass_uses_no_unsent_key(site_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async with site_rig.worker(partitions=1):
        await site_rig.users("alice", *MEMBERS)
        await site_rig.ask("create", events.create("big", *MEMBERS))
        gate = PageGate(monkeypatch, "big")
        await site_rig.publish("key.rotate", events.rotate("big"))
        await gate.until_reached()
        await site_rig.db.rooms.delete_one({"_id": "big"})
        await site_rig.db.subscriptions.delete_many({"roomId": "big"})
        again = await site_rig.publish("create", events.create("big", *MEMBERS))
        await site_rig.until(lambda: len(site_rig.of("chat.user.m7.event.subscription.update")) == 2, "the notice")
        gate.released.set()
        async with asyncio.timeout(20), await site_rig.db.rooms.watch() as changes:
            while "encKey" not in await site_rig.room("big"):
                await changes.next()
        await all_have_the_current_key(site_rig)
        assert (await site_rig.result(again))["status"] == "ok"
        await all_have_the_current_key(site_rig)


async def all_have_the_current_key(made: Rig) -> None:
    found = await made.room("big")
    in_use = (found["encKey"]["ver"], found["encKey"]["priv"])
    assert [account for account in ("alice", *MEMBERS) if in_use not in made.keys(account)] == []
