"""Events with tens of thousands of accounts, while the worker is killed between slices again and again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.harness.processes import child
from tests.harness.site import Rig, rig
from tests.load import seed
from tests.load.memory import peak_mib
from tests.load.sizes import size
from tests.load.tally import Tally, tally
from worker.local.servers import MongoServer, NatsServer

NAMED = size(40_000, 11_000)
IN_ORG = size(100_000, 16_000)
FOUNDERS = 10
KILLS = size(100, 1)
PEAK_MIB = 256
PATIENCE = 600.0


@asynccontextmanager
async def killed_between_slices(made: Rig, peaks: list[int]) -> AsyncIterator[None]:
    """Run workers one after the other, each killed after it has written one more slice; the last one stays."""

    async def kill() -> None:
        seen = 0
        async with AsyncExitStack() as stack, await made.db.room_worker_cursors.watch() as changes:
            worker = await stack.enter_async_context(child(made, PARTITIONS="1"))
            started.set()
            while seen < KILLS:
                change: Any = await changes.next()
                progress = change.get("updateDescription", {}).get("updatedFields", {}).get("slice")
                if progress is not None and progress["number"] > seen:
                    seen = progress["number"]
                    peaks.append(peak_mib(worker.pid))
                    worker.kill()
                    worker = await stack.enter_async_context(child(made, PARTITIONS="1"))
            await asyncio.Event().wait()

    started = asyncio.Event()
    killing = asyncio.create_task(kill())
    await started.wait()
    try:
        yield
    finally:
        killing.cancel()
        await asyncio.wait({killing})
        if not killing.cancelled():
            killing.result()


@pytest.mark.timeout(1_800)
async def test_tens_of_thousands_join_and_leave_by_one_event_each(
    own_nats: NatsServer, own_mongo: MongoServer, site: str
) -> None:
    everybody = FOUNDERS + IN_ORG + NAMED
    peaks: list[int] = []
    async with (
        rig(own_nats.url, own_mongo.uri, "chat", site, hears=["chat.user.*.response.*"]) as made,
        tally(own_nats.url, everybody) as keys,
    ):
        await seed.people(made.db, FOUNDERS)
        await seed.people(made.db, IN_ORG, FOUNDERS, deptId="crowd")
        await seed.people(made.db, NAMED, FOUNDERS + IN_ORG)
        await seed.room(made.db, site, "r1", FOUNDERS)
        named = [f"m{number}" for number in range(FOUNDERS + IN_ORG, everybody)]
        async with killed_between_slices(made, peaks):
            await succeed(made, "member.add", {"roomId": "r1", "users": named, "requesterAccount": "m0"})
            await check_members(made, keys, {*range(FOUNDERS), *range(FOUNDERS + IN_ORG, everybody)})
        async with killed_between_slices(made, peaks):
            await succeed(made, "member.add", {"roomId": "r1", "orgs": ["crowd"], "requesterAccount": "m0"})
            await check_members(made, keys, set(range(everybody)))
        assert await made.db.room_members.count_documents({"rid": "r1"}) == 1 + FOUNDERS + NAMED, (
            "individual rows, written by the first org"
        )
        async with killed_between_slices(made, peaks):
            await succeed(made, "member.remove", {"roomId": "r1", "accounts": named, "requester": "m0"})
            await check_members(made, keys, set(range(FOUNDERS + IN_ORG)))
        async with killed_between_slices(made, peaks):
            await succeed(made, "member.remove", {"roomId": "r1", "orgId": "crowd", "requester": "m0"})
            await check_members(made, keys, set(range(FOUNDERS)))
        assert await made.db.room_members.count_documents({"rid": "r1"}) == 0
    assert max(peaks) < PEAK_MIB, f"{max(peaks)} MiB"


async def succeed(made: Rig, suffix: str, body: dict[str, Any]) -> None:
    assert (await made.result(await made.publish(suffix, body), PATIENCE))["status"] == "ok"


async def check_members(made: Rig, keys: Tally, members: set[int]) -> None:
    """Check that these are the members, and that exactly they were sent the key in use."""
    room = await made.room("r1")
    version = room["encKey"]["ver"]
    assert await made.db.subscriptions.count_documents({"roomId": "r1"}) == len(members) == room["userCount"]
    await keys.until(lambda: keys.reached("r1", version) >= len(members), f"version {version} at {len(members)}")
    missing = [number for number in members if not keys.holds("r1", version, number)]
    assert not missing, f"{len(missing)} members were not sent version {version}, the first is m{min(missing)}"
    assert keys.reached("r1", version) == len(members)
    assert {len(bodies) for bodies in keys.keys.values()} == {1}, "one key per version"
