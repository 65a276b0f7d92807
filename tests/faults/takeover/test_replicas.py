"""Replicas: they share a site's partitions, hand them over at once, and take them from the dead."""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from roomkeys.events.position import partition_of
from tests.faults.machinery.wire import Place, Stall
from tests.harness import events
from tests.harness.processes import child, ends_well
from tests.harness.proxy import proxied
from tests.harness.site import PATIENCE, Rig
from worker.limits import Limits

CREATE = events.create("r1", "bob", "carol")
REMOVE_BOB = events.remove("r1", account="bob")
TAKEOVER_SECONDS = 10.0


@pytest.fixture(autouse=True)
def production_limits(site_rig: Rig) -> None:
    """Keep the real lease and heartbeat: some of these tests say how long a takeover takes."""
    site_rig.limits = Limits()


async def owners(made: Rig) -> list[Any]:
    found = await made.db.room_worker_cursors.find({"site": made.site}).to_list(None)
    return [item["owner"] for item in found]


async def until_owners(made: Rig, look: Callable[[list[Any]], bool], what: str) -> float:
    """Wait until the partitions' owners are as they should be; return how many seconds it took."""
    since = time.monotonic()
    seen: list[Any] = []
    try:
        async with asyncio.timeout(20), await made.db.room_worker_cursors.watch() as changes:
            while not look(seen := await owners(made)):
                await changes.next()
    except TimeoutError:
        raise AssertionError(f"{what}: owners are {seen}") from None
    return time.monotonic() - since


def shared(seen: list[Any], replicas: int) -> bool:
    counts = sorted(seen.count(owner) for owner in set(seen))
    return None not in seen and counts == [8 // replicas] * replicas


async def test_two_replicas_share_the_partitions_and_both_rooms_are_served(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob", "carol")
    async with site_rig.worker():
        await until_owners(site_rig, lambda seen: shared(seen, 1), "one replica owns all")
        async with site_rig.worker():
            await until_owners(site_rig, lambda seen: shared(seen, 2), "two replicas own half each")
            for room in range(16):
                created = await site_rig.ask("create", {**CREATE, "roomId": f"r{room}"})
                assert created["status"] == "ok"
    assert await site_rig.db.rooms.count_documents({}) == 16
    assert len(site_rig.keys("bob")) == 16


async def test_a_replica_that_is_told_to_stop_hands_over_at_once(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob", "carol")
    async with child(site_rig) as first:
        await until_owners(site_rig, lambda seen: shared(seen, 1), "the first owns all")
        async with site_rig.worker():
            await until_owners(site_rig, lambda seen: shared(seen, 2), "both own half")
            first.send_signal(signal.SIGTERM)
            took = await until_owners(site_rig, lambda seen: shared(seen, 1), "the second owns all")
            assert await first.wait() == 0
            assert took < TAKEOVER_SECONDS / 2, "a hand-over waits for no lease to run out"
            assert (await site_rig.ask("create", CREATE))["status"] == "ok"


async def test_a_killed_replicas_partitions_move_within_ten_seconds(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob", "carol")
    async with child(site_rig) as first:
        await until_owners(site_rig, lambda seen: shared(seen, 1), "the first owns all")
        async with site_rig.worker():
            await until_owners(site_rig, lambda seen: shared(seen, 2), "both own half")
            first.kill()
            took = await until_owners(site_rig, lambda seen: shared(seen, 1), "the second owns all")
            assert took < TAKEOVER_SECONDS
            for room in range(8):
                assert (await site_rig.ask("create", {**CREATE, "roomId": f"r{room}"}))["status"] == "ok"


async def test_replica_that_slept_notices_without_an_event_that_its_leases_are_lost(site_rig: Rig) -> None:
    site_rig.limit(lease_ms=2_000)
    async with child(site_rig) as sleeper:
        await until_owners(site_rig, lambda seen: shared(seen, 1), "the first owns all")
        async with site_rig.worker():
            await until_owners(site_rig, lambda seen: shared(seen, 2), "both own half")
            sleeper.send_signal(signal.SIGSTOP)
            await until_owners(site_rig, lambda seen: shared(seen, 1), "the second owns all")
            sleeper.send_signal(signal.SIGCONT)
            await until_owners(site_rig, lambda seen: shared(seen, 2), "both own half again")
            await ends_well(sleeper)


async def test_a_replica_that_died_inside_a_transaction_holds_nobody_up(site_rig: Rig) -> None:
    """It dies after it wrote the cursor and the room; the locks of its open transaction are freed."""
    await site_rig.users("alice", "bob", "carol")
    async with site_rig.worker():
        await site_rig.ask("create", CREATE)
    async with child(site_rig, AT_COMMAND="delete:before:1") as doomed:
        await until_owners(site_rig, lambda seen: shared(seen, 1), "the doomed one owns all")
        request_id = await site_rig.publish("member.remove", REMOVE_BOB)
        assert await asyncio.wait_for(doomed.wait(), 20) == -signal.SIGKILL
        since = time.monotonic()
        async with site_rig.worker():
            removed = await site_rig.result(request_id)
            took = time.monotonic() - since
    assert removed["status"] == "ok"
    assert took < TAKEOVER_SECONDS, f"took {took:.1f} s"
    assert {version for version, _ in site_rig.keys("carol")} == {0, 1}
    assert [version for version, _ in site_rig.keys("bob")] == [0]


async def test_a_replica_that_died_after_its_transaction_is_finished_for(site_rig: Rig) -> None:
    site_rig.limit(lease_ms=2_000)
    await site_rig.users("alice", "bob", "carol")
    async with site_rig.worker():
        await site_rig.ask("create", CREATE)
    async with child(site_rig, AT_STEP="settle:before:1") as doomed:
        await until_owners(site_rig, lambda seen: shared(seen, 1), "the doomed one owns all")
        request_id = await site_rig.publish("member.remove", REMOVE_BOB)
        assert await asyncio.wait_for(doomed.wait(), 20) == -signal.SIGKILL
        assert (await site_rig.room("r1"))["encKey"]["ver"] == 0
        async with site_rig.worker():
            removed = await site_rig.result(request_id)
    assert removed["status"] == "ok"
    assert len({key for key in site_rig.keys("carol") if key[0] == 1}) == 1, "the same key went out again"


async def test_partitions_that_are_interrupted_while_they_are_to_be_handed_over_go_to_the_other_replica(
    site_rig: Rig,
) -> None:
    """The broker confirms nothing to the first replica, which is alive and so keeps what bears its name."""
    await site_rig.users("alice", "bob", "carol")
    impatient = json.dumps({"confirm_s": 1})
    stall = Stall(Place(b"PUB chat.user."))
    rooms = [f"r{number}" for number in range(32)]
    assert {partition_of(room_id, 8) for room_id in rooms} == set(range(8))
    async with (
        proxied(site_rig.settings.nats_url[0]) as proxy,
        child(site_rig, NATS_URL=proxy.url, LIMITS=impatient) as first,
    ):
        for room_id in rooms:
            await site_rig.ask("create", {**CREATE, "roomId": room_id})
        proxy.fault = stall
        asked = [await site_rig.publish("key.rotate", events.rotate(one)) for one in rooms]
        await asyncio.wait_for(stall.held.wait(), PATIENCE)
        async with site_rig.worker():
            await until_owners(site_rig, lambda seen: shared(seen, 2), "both own half")
            stall.released.set()
            for request_id in asked:
                await site_rig.result(request_id)
            await ends_well(first)
