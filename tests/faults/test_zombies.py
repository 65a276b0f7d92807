"""A worker that sleeps past its lease and wakes in the middle of something that is another's business by then."""

import asyncio
import signal
from asyncio.subprocess import Process

import pytest

from tests.command import child, says
from tests.faults.story import EVENTS, Story, story
from tests.rig import PATIENCE, Rig

STEPS = ["apply:before:2", "deliver:before:2", "deliver:after:2", "settle:before:2", "announce:before:2"]
COMMANDS = [
    "update:after:4",  # the fence is written, the transaction is open
    "commitTransaction:before:3",  # of what the first removal changes
    "commitTransaction:after:3",
    "aggregate:after:2",  # its recipients are read
    "commitTransaction:before:4",  # of the new key's coming into use
    "commitTransaction:after:4",
]


async def told_around(told: Story, sleeper: Process, place: str) -> None:
    """Let a worker fall asleep in the midst of the first removal, another one go on, and the sleeper wake."""
    made = told.made
    await told.begin()
    await told.tell(EVENTS[:1])
    await says(sleeper, place)
    await told.declare_dead()
    async with made.worker(partitions=1):
        await told.tell(EVENTS[1:])
        await told.end()
        sleeper.send_signal(signal.SIGCONT)
        await until_replicas(made, 2)
        await ends_well(sleeper)
        await told.end()


async def ends_well(worker: Process) -> None:
    worker.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(worker.wait(), PATIENCE) == 0


async def until_replicas(made: Rig, count: int) -> None:
    replicas = made.db.room_worker_replicas
    async with asyncio.timeout(PATIENCE), await replicas.watch() as changes:
        while await replicas.count_documents({"site": made.site}) < count:
            await changes.next()


@pytest.mark.parametrize("place", STEPS)
async def test_an_owner_that_wakes_up_at_a_step_of_its_past_changes_nothing(site_rig: Rig, place: str) -> None:
    async with story(site_rig) as told, child(site_rig, PARTITIONS="1", AT_STEP=place, DO="stop") as sleeper:
        await told_around(told, sleeper, place.rpartition(":")[0])


@pytest.mark.parametrize("place", COMMANDS)
async def test_an_owner_that_wakes_up_inside_a_transaction_of_its_past_changes_nothing(
    site_rig: Rig, place: str
) -> None:
    async with story(site_rig) as told, child(site_rig, PARTITIONS="1", AT_COMMAND=place, DO="stop") as sleeper:
        await told_around(told, sleeper, place.rpartition(":")[0])


async def test_an_owner_that_sleeps_past_its_lease_is_taken_over_from_without_anybodys_help(site_rig: Rig) -> None:
    """Nobody declares it dead: the lease runs out by the database's clock."""
    async with story(site_rig) as told:
        async with child(site_rig, PARTITIONS="1", AT_STEP="deliver:before:2", DO="stop") as sleeper:
            await told.begin()
            await told.tell()
            await says(sleeper, "deliver:before")
            async with site_rig.worker(partitions=1):
                await told.end()
                sleeper.send_signal(signal.SIGCONT)
                await ends_well(sleeper)
