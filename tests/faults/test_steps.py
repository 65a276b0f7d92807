"""A worker that dies at a step: whoever comes next finishes its batch as it was decided."""

import asyncio
import signal

import pytest

from tests.command import child
from tests.faults.story import Story, story
from tests.rig import Rig

STEPS = ["read", "apply", "deliver", "settle", "announce", "strike"]
COMMANDS = ["update", "delete", "insert", "commitTransaction"]
BEFORE_AND_AFTER = pytest.mark.parametrize("side", ["before", "after"])


async def told_to_two(told: Story, trap: dict[str, str], ending: int) -> None:
    """Let a worker run into a trap in the midst of the story, and another one finish it."""
    made = told.made
    async with child(made, PARTITIONS="1", **trap) as doomed:
        await told.begin()
        await told.tell()
        assert await asyncio.wait_for(doomed.wait(), 30) == ending
    await told.declare_dead()
    async with made.worker(partitions=1):
        await told.end()


@BEFORE_AND_AFTER
@pytest.mark.parametrize("step", STEPS)
async def test_a_worker_that_is_killed_at_a_step_is_finished_for(site_rig: Rig, step: str, side: str) -> None:
    count = 1 if step == "strike" else 2
    async with story(site_rig) as told:
        await told_to_two(told, {"AT_STEP": f"{step}:{side}:{count}", "DO": "kill"}, -signal.SIGKILL)


@BEFORE_AND_AFTER
@pytest.mark.parametrize("command", COMMANDS)
async def test_a_worker_that_is_killed_inside_a_transaction_is_finished_for(
    site_rig: Rig, command: str, side: str
) -> None:
    """The room's creation takes one transaction to apply and one to settle; the removals begin in the third."""
    count = {"update": 4, "delete": 1, "insert": 4, "commitTransaction": 3}[command]
    async with story(site_rig) as told:
        await told_to_two(told, {"AT_COMMAND": f"{command}:{side}:{count}", "DO": "kill"}, -signal.SIGKILL)


@pytest.mark.parametrize("step", ["apply", "deliver"])
async def test_a_worker_that_falls_over_at_a_step_is_finished_for(site_rig: Rig, step: str) -> None:
    """Everything in it is unwound, in whatever order, and nothing that should not go out does."""
    async with story(site_rig) as told:
        await told_to_two(told, {"AT_STEP": f"{step}:before:2", "DO": "exit"}, 3)
