"""A worker that dies at a step: the next owner finishes its batch as it was decided."""

import asyncio
import signal
from itertools import product

import pytest

from tests.faults.machinery.scenario import SIZES, Story, story
from tests.harness.processes import child
from tests.harness.site import Rig

STEPS = ["read", "apply", "deliver", "settle", "announce", "tidy"]
COMMANDS = ["update", "delete", "insert", "commitTransaction"]
SIDES = ["before", "after"]
EVERYWHERE = list(product(SIZES, STEPS, SIDES))
TELLING = [("small", step, side) for step, side in product(STEPS, SIDES)]
TELLING += [(size, step, "before") for size, step in product(["big", "sliced"], STEPS[1:-1])]
PLACES = [place if place in TELLING else pytest.param(*place, marks=pytest.mark.soak) for place in EVERYWHERE]


async def told_to_two(told: Story, trap: dict[str, str], ending: int) -> None:
    """Let a worker run into a trap in the midst of the story, and another one finish it."""
    made, variables = told.made, {"PARTITIONS": "1", "MAX_BATCH_EVENTS": "1"}
    async with made.worker(partitions=1):
        await told.begin()
    async with child(made, **variables, **trap) as doomed:
        await told.tell()
        assert await asyncio.wait_for(doomed.wait(), 30) == ending
    await told.declare_dead()
    async with made.worker(partitions=1):
        await told.end()


@pytest.mark.parametrize(("size", "step", "side"), PLACES)
async def test_a_worker_that_is_killed_at_a_step_is_finished_for(
    site_rig: Rig, size: str, step: str, side: str
) -> None:
    site_rig.limit(**SIZES[size])
    async with story(site_rig) as told:
        await told_to_two(told, {"AT_STEP": f"{step}:{side}:1", "DO": "kill"}, -signal.SIGKILL)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("command", COMMANDS)
async def test_a_worker_that_is_killed_inside_a_transaction_is_finished_for(
    site_rig: Rig, command: str, side: str
) -> None:
    async with story(site_rig) as told:
        await told_to_two(told, {"AT_COMMAND": f"{command}:{side}:1", "DO": "kill"}, -signal.SIGKILL)


@pytest.mark.parametrize("step", ["apply", "deliver"])
async def test_a_worker_that_falls_over_at_a_step_is_finished_for(site_rig: Rig, step: str) -> None:
    """Everything in it is unwound, in whatever order, and nothing that should not go out does."""
    site_rig.limit(confirm_s=120)  # it does not wait for the broker as it ends
    async with story(site_rig) as told:
        await told_to_two(told, {"AT_STEP": f"{step}:before:2", "DO": "exit"}, 3)
