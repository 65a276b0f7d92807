"""Clocks that jump by hours, forward and back, at every step, or that are hours apart: none of it matters."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.faults.machinery.scenario import ROOM, story
from tests.harness import events
from tests.harness.key_service import Asker
from tests.harness.polling import until_answered
from tests.harness.processes import child, ends_well
from tests.harness.site import Rig
from worker.clock import now_ms

HOUR = 3_600
JUMPS = [3 * HOUR, -3 * HOUR, 0, 2 * HOUR, -HOUR]
GRACE = timedelta(hours=24)


@pytest.mark.parametrize("jumps", [JUMPS, pytest.param([-jump for jump in JUMPS], marks=pytest.mark.soak)])
async def test_a_worker_whose_clock_jumps_keeps_its_partitions_its_order_and_the_past_keys(
    site_rig: Rig, jumps: list[int]
) -> None:
    clock = {"CLOCK": ",".join(map(str, jumps))}
    async with story(site_rig) as told, child(site_rig, MAX_BATCH_EVENTS="1", **clock) as worker:
        await told.begin()
        await told.tell()
        await told.end()
        cursors = await site_rig.db.room_worker_cursors.find({"site": site_rig.site}).to_list(None)
        assert {cursor["epoch"] for cursor in cursors} == {1}, "nobody took a lease again"
        await ends_well(worker)
    past = (await site_rig.room(ROOM))["keyRotation"]["past"]
    expected = datetime.fromtimestamp(time.time(), UTC) + GRACE
    assert [key["ver"] for key in past] == [0, 1, 2]
    for key in past:
        assert abs(key["until"] - expected) < timedelta(minutes=5), "the clock of the database decides"


async def test_replicas_whose_clocks_are_days_apart_hand_over_and_finish_for_each_other(site_rig: Rig) -> None:
    async with story(site_rig) as told:
        for days in (-3, 3):
            clock = {"CLOCK": str(days * 24 * HOUR)}
            async with child(site_rig, **clock) as worker:
                await (told.begin() if days < 0 else told.tell())
                await told.end()
                await ends_well(worker)


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_replicas_whose_clocks_are_an_hour_apart_agree_on_what_has_expired(site_rig: Rig, driver: str) -> None:
    """With a grace period of 30 min, a key replaced just now is available, and one that has expired is not."""
    await site_rig.users("alice", "bob")
    asker = Asker(site_rig.nc, site_rig.site)
    settings = {"grace_ms": HOUR * 500, "mongo_driver": driver}
    async with (
        site_rig.worker(clock=lambda: now_ms() + HOUR * 1_000, **settings),
        site_rig.worker(clock=lambda: now_ms() - HOUR * 1_000, **settings),
    ):
        for number in range(8):  # in partitions of both replicas
            await site_rig.ask("create", events.create(f"r{number}", "bob"))
            await site_rig.ask("key.rotate", events.rotate(f"r{number}"))
            answers = [await asker.get("bob", f"r{number}", {"version": 0}) for _ in range(8)]  # of both services
            assert {answer.get("version") for answer in answers} == {0}, answers
            (entry,) = (await site_rig.room(f"r{number}"))["keyRotation"]["past"]
            left = entry["until"] - datetime.fromtimestamp(time.time(), UTC)
            assert timedelta(minutes=29) < left <= timedelta(minutes=30, seconds=1)
        expired = datetime.fromtimestamp(time.time() - 1, UTC)
        await site_rig.db.rooms.update_many({}, {"$set": {"keyRotation.past.0.until": expired}})
        answers = [await asker.get("bob", f"r{number}", {"version": 0}) for number in range(8) for _ in range(8)]
        assert {answer.get("code") for answer in answers} == {"not_found"}


async def test_key_that_is_still_valid_survives_the_next_rotation_by_a_replica_whose_clock_is_ahead(
    site_rig: Rig,
) -> None:
    await site_rig.users("alice", "bob")
    async with site_rig.worker(clock=lambda: now_ms() + HOUR * 1_000, grace_ms=HOUR * 500):
        await site_rig.ask("create", events.create("r1", "bob"))
        for _ in range(3):
            await site_rig.ask("key.rotate", events.rotate("r1"))
    assert [key["ver"] for key in (await site_rig.room("r1"))["keyRotation"]["past"]] == [0, 1, 2]


@pytest.mark.parametrize("ahead_ms", [-HOUR * 1_000, HOUR * 1_000])
async def test_keys_of_quiet_rooms_are_erased_after_they_expire_also_by_another_replica(
    site_rig: Rig, ahead_ms: int
) -> None:
    site_rig.limit(erase_s=0.1)
    await site_rig.users("alice", "bob")
    async with site_rig.worker(grace_ms=300):
        for number in range(4):
            await site_rig.ask("create", events.create(f"r{number}", "bob"))
            await site_rig.ask("key.rotate", events.rotate(f"r{number}"))
        await until_answered(lambda: erased(site_rig))
    before = await site_rig.room("r0")
    assert before["encKey"] == {"priv": before["keyRotation"]["current"]["priv"], "ver": 1}
    async with site_rig.worker(grace_ms=HOUR * 500):
        await site_rig.ask("key.rotate", events.rotate("r0"))
    assert not await erased(site_rig)
    expired = datetime.fromtimestamp(time.time() - 1, UTC)
    times = {"keyRotation.past.0.until": expired, "encKey.prevExpiresAt": expired}
    await site_rig.db.rooms.update_one({"_id": "r0"}, {"$set": times})
    async with site_rig.worker(clock=lambda: now_ms() + ahead_ms):
        await until_answered(lambda: erased(site_rig))
    after = await site_rig.room("r0")
    assert (after["encKey"]["ver"], after["keyRotation"]["high"], after["keyRotation"]["settled"]) == (2, 2, 2)


async def erased(made: Rig) -> bool:
    """Tell whether no room has a replaced key."""
    kept = {"$or": [{"keyRotation.past.0": {"$exists": True}}, {"encKey.prevPriv": {"$exists": True}}]}
    return not await made.db.rooms.find_one(kept)
