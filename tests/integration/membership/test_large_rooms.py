"""A large room has its rollout beside the loop; other rooms go on as usual."""

import asyncio
from typing import Any

import pytest

from tests.harness import events
from tests.harness.gates import PageGate
from tests.harness.site import Rig
from worker.pipeline.deliver import Publisher

MEMBERS = [f"m{number}" for number in range(8)]
BIG = events.create("big", *MEMBERS, name="Big")
SMALL = events.create("small", "bob", name="Small")


@pytest.fixture(autouse=True)
def small_limits(site_rig: Rig) -> None:
    """Make a room of five large: a page has three accounts and a window two."""
    site_rig.limit(large_room_members=4, page_accounts=3, window_accounts=2)


async def found(made: Rig) -> None:
    await made.users("alice", "bob", "carol", "dave", *MEMBERS)
    await made.ask("create", BIG)
    await made.ask("create", SMALL)


async def remove(made: Rig, account: str) -> str:
    return await made.publish("member.remove", events.remove("big", account=account))


async def settled_versions(made: Rig) -> list[int]:
    rotation = (await made.room("big"))["keyRotation"]
    return [past["ver"] for past in rotation["past"]] + [rotation["settled"]]


async def holds_the_current_key(made: Rig, *accounts: str) -> None:
    room = await made.room("big")
    for account in accounts:
        assert (room["encKey"]["ver"], room["encKey"]["priv"]) in made.keys(account, "big"), account


async def test_every_member_of_a_large_room_is_sent_the_key_before_it_is_used(site_rig: Rig) -> None:
    async with site_rig.worker(partitions=1):
        await found(site_rig)
        await holds_the_current_key(site_rig, "alice", *MEMBERS)
        assert (await site_rig.result(await remove(site_rig, "m3")))["status"] == "ok"
        await holds_the_current_key(site_rig, "alice", *MEMBERS[:3], *MEMBERS[4:])
    assert [version for version, _ in site_rig.keys("m3")] == [0]
    assert await settled_versions(site_rig) == [0, 1]
    assert await site_rig.db.room_worker_outbox.count_documents({}) == 0


async def test_other_rooms_go_on_and_a_burst_becomes_one_follow_up_pass(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site_rig.worker(partitions=1):
        await found(site_rig)
        gate = PageGate(monkeypatch, "big")
        asked = [await remove(site_rig, "m0")]
        await gate.until_reached()
        asked += [await remove(site_rig, account) for account in ("m1", "m2", "m3")]
        joins = events.add("big", "carol")
        asked.append(await site_rig.publish("member.add", joins))
        assert (await site_rig.ask("key.rotate", events.rotate("small", requester="bob")))["status"] == "ok"
        await site_rig.until(lambda: len(site_rig.keys("carol")) == 2, "the keys of somebody who joined meanwhile")
        assert {version for version, _ in site_rig.keys("carol")} == {0, 1}
        room = await site_rig.room("big")
        assert (room["encKey"]["ver"], room["keyRotation"]["high"], room["keyRotation"]["staged"]["ver"]) == (0, 4, 1)
        assert not [item for item in site_rig.received if item.subject.split(".")[-1] in asked], "too early"
        gate.released.set()
        assert [(await site_rig.result(request_id))["status"] for request_id in asked] == ["ok"] * 5
        await holds_the_current_key(site_rig, "alice", "carol", *MEMBERS[4:])
    assert await settled_versions(site_rig) == [0, 1, 4], "the burst is one pass"
    answers = [item.subject.split(".")[-1] for item in site_rig.received if item.subject.split(".")[-1] in asked]
    assert answers == asked, "results in stream order"
    assert {version for version, _ in site_rig.keys("m1")} <= {0, 1}, "m1 left before version 2"
    assert await site_rig.db.room_worker_outbox.count_documents({}) == 0


async def test_interrupted_pass_is_restarted_by_the_next_owner(site_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async with site_rig.worker(partitions=1) as stop:
        await found(site_rig)
        gate = PageGate(monkeypatch, "big")
        asked = [await remove(site_rig, "m7")]
        await gate.until_reached()
        asked.append(await site_rig.publish("member.add", events.add("big", "carol")))
        await site_rig.until(lambda: len(site_rig.keys("carol")) == 2, "the joiner's keys")
        asked.append(await remove(site_rig, "m6"))
        await site_rig.until(lambda: site_rig.of("chat.user.m6.event.subscription.update")[1:], "the removal")
        stop.set()
    assert (await site_rig.room("big"))["encKey"]["ver"] == 0, "the pass was not over"
    gate.released.set()
    async with site_rig.worker(partitions=1):
        assert [(await site_rig.result(request_id))["status"] for request_id in asked] == ["ok"] * 3
        await holds_the_current_key(site_rig, "alice", "carol", *MEMBERS[:6])
    assert await settled_versions(site_rig) == [0, 1, 2]
    assert {version for version, _ in site_rig.keys("m7")} == {0}
    assert {version for version, _ in site_rig.keys("m6")} <= {0, 1}


async def test_joiner_receives_the_notice_before_a_pass_sends_the_key(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker applies the add during a pass, which then reads the joiner; the test delays the notice."""
    async with site_rig.worker(partitions=1):
        await found(site_rig)
        gate = PageGate(monkeypatch, "big", before_page=1)
        asked = [await remove(site_rig, "m0")]
        await gate.until_reached()
        applied, passed = asyncio.Event(), asyncio.Event()
        tell = Publisher.publish_notices

        async def later(self: Publisher, owed: Any) -> None:
            applied.set()
            await passed.wait()
            await tell(self, owed)

        monkeypatch.setattr(Publisher, "publish_notices", later)
        asked.append(await site_rig.publish("member.add", events.add("big", "m0")))
        await asyncio.wait_for(applied.wait(), 30)
        gate.released.set()
        await site_rig.until(lambda: 1 in dict(site_rig.keys("m7")), "the end of the pass")
        passed.set()
        assert [(await site_rig.result(request_id))["status"] for request_id in asked] == ["ok"] * 2
        await holds_the_current_key(site_rig, "alice", *MEMBERS)
    order = [
        item.subject.rpartition(".")[2] + str(item.body.get("version", item.body.get("action")))
        for item in site_rig.received
        if item.subject.startswith("chat.user.m0.event.")
    ]
    assert order.index("key1") > len(order) - 1 - order[::-1].index("updateadded"), order
