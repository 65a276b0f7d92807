"""A worker that sleeps past its lease and wakes in the middle of something that is another's business by then."""

import asyncio
import signal

import pytest

from tests.faults.machinery.scenario import END, MIDDLE, SIZES, Story, story
from tests.harness.forked_worker import WorkerProcess
from tests.harness.processes import child, ends_well, says
from tests.harness.site import PATIENCE, Rig

SOAK = pytest.mark.soak
BEDS = [
    ("small", "AT_STEP", "apply:before:1"),
    ("small", "AT_COMMAND", "update:after:1"),  # the fence is written, the transaction is open
    ("small", "AT_COMMAND", "commitTransaction:before:1"),  # of what the removal changes
    ("small", "AT_STEP", "deliver:before:1"),
    ("small", "AT_COMMAND", "aggregate:after:1"),  # the recipients are read
    ("small", "AT_STEP", "settle:before:1"),
    ("small", "AT_COMMAND", "commitTransaction:before:2"),  # of the new key's coming into use
    ("small", "AT_STEP", "announce:before:1"),
    ("big", "AT_COMMAND", "aggregate:after:2"),  # the pass has read its second page
    ("sliced", "AT_STEP", "apply:before:2"),
    pytest.param("small", "AT_COMMAND", "commitTransaction:after:1", marks=SOAK),
    pytest.param("small", "AT_STEP", "deliver:after:1", marks=SOAK),
    pytest.param("small", "AT_COMMAND", "commitTransaction:after:2", marks=SOAK),
    pytest.param("big", "AT_STEP", "deliver:before:1", marks=SOAK),
    pytest.param("big", "AT_COMMAND", "aggregate:before:1", marks=SOAK),  # the pass has read the key
    pytest.param("sliced", "AT_STEP", "deliver:after:1", marks=SOAK),
    pytest.param("sliced", "AT_COMMAND", "commitTransaction:before:2", marks=SOAK),
]


async def told_around(told: Story, sleeper: WorkerProcess, place: str) -> None:
    """Let a worker fall asleep in the midst of the first removal, another one go on, and the sleeper wake."""
    made = told.made
    await told.tell(MIDDLE)
    await says(sleeper, place)
    await told.declare_dead()
    async with made.worker(partitions=1):
        await told.tell(END)
        await told.end()
        sleeper.send_signal(signal.SIGCONT)
        await until_replicas(made, 2)
        await ends_well(sleeper)
        await told.end()


async def until_replicas(made: Rig, count: int) -> None:
    replicas = made.db.room_worker_replicas
    async with asyncio.timeout(PATIENCE), await replicas.watch() as changes:
        while await replicas.count_documents({"site": made.site}) < count:
            await changes.next()


@pytest.mark.parametrize(("size", "kind", "place"), BEDS)
async def test_an_owner_that_wakes_up_in_the_midst_of_its_past_changes_nothing(
    site_rig: Rig, size: str, kind: str, place: str
) -> None:
    site_rig.limit(**SIZES[size])
    variables = {"PARTITIONS": "1", kind: place, "DO": "stop"}
    async with story(site_rig) as told:
        async with site_rig.worker(partitions=1):
            await told.begin()
        async with child(site_rig, **variables) as sleeper:
            await told_around(told, sleeper, place.rpartition(":")[0])


@pytest.mark.soak
async def test_an_owner_that_sleeps_past_its_lease_is_taken_over_from_without_anybodys_help(site_rig: Rig) -> None:
    """Nobody declares it dead: the lease runs out by the database's clock."""
    variables = {"PARTITIONS": "1", "AT_STEP": "deliver:before:2", "DO": "stop"}
    async with story(site_rig) as told, child(site_rig, **variables) as sleeper:
        await told.begin()
        await told.tell()
        await says(sleeper, "deliver:before")
        async with site_rig.worker(partitions=1):
            await told.end()
            sleeper.send_signal(signal.SIGCONT)
            await ends_well(sleeper)
