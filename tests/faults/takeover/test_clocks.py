"""Clocks that jump by hours, forward and back, at every step: time decides nothing that matters."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.faults.machinery.scenario import ROOM, story
from tests.harness.processes import child, ends_well
from tests.harness.site import Rig

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
    now, furthest = datetime.fromtimestamp(time.time(), UTC), timedelta(seconds=max(map(abs, jumps)))
    assert [key["ver"] for key in past] == [0, 1, 2]
    for key in past:
        assert abs(key["until"] - (now + GRACE)) <= furthest + timedelta(minutes=5), "off by no more than the jump"


async def test_replicas_whose_clocks_are_days_apart_hand_over_and_finish_for_each_other(site_rig: Rig) -> None:
    async with story(site_rig) as told:
        for days in (-3, 3):
            clock = {"CLOCK": str(days * 24 * HOUR)}
            async with child(site_rig, **clock) as worker:
                await (told.begin() if days < 0 else told.tell())
                await told.end()
                await ends_well(worker)
