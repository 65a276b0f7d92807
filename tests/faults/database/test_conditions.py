"""A database that refuses every write for a while: it costs time and is named, and it costs no event."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from roomkeys import subjects
from tests.harness import events
from tests.harness.polling import until
from tests.harness.site import Rig, rig
from worker.local.servers import MongoServer
from worker.telemetry.metrics import INTERRUPTIONS

BLOCKED = "BulkWriteError 371 UserWritesBlocked"


@pytest.fixture
async def made(nats_url: str, own_mongo: MongoServer, site: str) -> AsyncIterator[Rig]:
    """Set up a site with a database whose writes can be blocked, and the rooms r0 to r4."""
    async with rig(nats_url, own_mongo.uri, "chat", site) as made:
        await made.users("alice", "bob", "carol")
        yield made


async def create_rooms(made: Rig) -> None:
    for number in range(5):
        assert (await made.ask("create", events.create(f"r{number}", "bob", "carol")))["status"] == "ok"


async def block(made: Rig, *, on: bool) -> None:
    """Block writes of every program, as an operator does before a migration, or let them go on."""
    await made.db.client.admin.command({"setUserWriteBlockMode": 1, "global": on})


@asynccontextmanager
async def blocked(made: Rig) -> AsyncIterator[None]:
    await block(made, on=True)
    try:
        yield
    finally:
        await block(made, on=False)


async def remove_bob(made: Rig) -> list[str]:
    return [await made.publish("member.remove", events.remove(f"r{number}", account="bob")) for number in range(5)]


async def assert_removed(made: Rig, asked: list[str]) -> None:
    for request_id in asked:
        assert (await made.result(request_id, 60))["status"] == "ok"
    for number in range(5):
        assert set(await made.members(f"r{number}")) == {"alice", "carol"}
        assert (await made.room(f"r{number}"))["encKey"]["ver"] == 1
    assert [version for version, _ in made.keys("bob")] == 5 * [0]
    assert made.of(subjects.dead_letter_subject(made.site)) == []


@pytest.mark.parametrize("seconds", [6, *(pytest.param(seconds, marks=pytest.mark.soak) for seconds in (4, 8, 10, 45))])
@pytest.mark.parametrize("first_pause_s", [1.0, 0.02], ids=["pauses of production", "short pauses"])
async def test_writes_that_are_blocked_for_a_while_cost_no_event(made: Rig, seconds: int, first_pause_s: float) -> None:
    made.limit(set_aside_pause_s=first_pause_s)
    interruptions = INTERRUPTIONS.labels("database")._value
    async with made.worker(partitions=2):
        await create_rooms(made)
        before = interruptions.get()
        with capture_logs() as lines:
            async with blocked(made):
                asked = await remove_bob(made)
                await asyncio.sleep(seconds)
            await assert_removed(made, asked)
        assert interruptions.get() > before
    (named, *_) = [line for line in lines if line["event"].startswith("database for partition")]
    assert named["cause"] == BLOCKED
    assert named["operation"] == "room.member.remove"


async def test_event_that_waits_when_writes_are_blocked_is_not_given_up(made: Rig) -> None:
    made.limit(set_aside_pause_s=0.02)
    async with made.worker(partitions=1):
        await create_rooms(made)
        await made.db.command({"collMod": "rooms", "validator": {"_id": {"$ne": "r0"}}})
        asked = await remove_bob(made)
        await until(lambda: len(made.results) == 5 + 4)
        async with blocked(made):
            await asyncio.sleep(3)
            assert asked[0] not in made.results
        await made.db.command({"collMod": "rooms", "validator": {}})
        await assert_removed(made, asked)


@pytest.mark.parametrize("seconds", [0.02, 0.3])
async def test_writes_that_are_blocked_again_and_again_cost_no_event(made: Rig, seconds: float) -> None:
    made.limit(set_aside_pause_s=0.02)
    async with made.worker(partitions=1):
        await create_rooms(made)
        flapping = asyncio.create_task(flap(made, seconds))
        await assert_removed(made, await remove_bob(made))
        flapping.cancel()
        await asyncio.wait({flapping})
        await block(made, on=False)


async def flap(made: Rig, seconds: float) -> None:
    """Block writes half of the time."""
    while True:
        for on in (True, False):
            await block(made, on=on)
            await asyncio.sleep(seconds)
