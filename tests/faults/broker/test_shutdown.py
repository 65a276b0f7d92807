"""SIGTERM while servers hang or are dead: the program ends within its budget, and the next owner finishes the rest."""

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from roomkeys import subjects
from tests.harness import events
from tests.harness.key_service import Asker, room
from tests.harness.pages import until_status
from tests.harness.processes import Ended, ended, running, variables
from tests.harness.site import Rig, rig
from worker.local.ports import HOST, free_port
from worker.local.servers import MongoServer, NatsServer

BUDGET = 8.0
"""Seconds within which SIGTERM ends the program. (docs/contract.md, section 7)"""

Fault = Callable[[NatsServer, MongoServer], Awaitable[None]]


def send(number: signal.Signals, *servers: NatsServer | MongoServer) -> None:
    for server in servers:
        if (process := server._running()) is not None:
            os.kill(process.pid, number)


async def hang(*servers: NatsServer | MongoServer) -> None:
    send(signal.SIGSTOP, *servers)


MONGOD_FAULTS: dict[str, Fault] = {
    "mongod hangs": lambda _, mongo: hang(mongo),
    "mongod is dead": lambda _, mongo: mongo.kill(),
    "both hang": hang,
}
NATS_FAULTS: dict[str, Fault] = {
    "nats-server hangs": lambda nats, _: hang(nats),
    "nats-server is dead": lambda nats, _: nats.kill(),
}
FAULTS = MONGOD_FAULTS | NATS_FAULTS


async def recover(*servers: NatsServer | MongoServer) -> None:
    send(signal.SIGCONT, *servers)
    for server in servers:
        await server.start()


@asynccontextmanager
async def running_site(nats: NatsServer, mongo: MongoServer, site: str) -> AsyncIterator[tuple[Rig, Process]]:
    """Run the program on separate servers, until both halves are ready; end every fault at the end."""
    address = f"{HOST}:{free_port()}"
    async with rig(nats.url, mongo.uri, "chat", site) as made:
        await made.users("alice", "bob")
        environment = variables(made, HEALTH_ADDR=address, METRICS_ADDR=address)
        try:
            async with running("run", env=environment) as process:
                await until_status(address, "/readyz", 200)
                yield made, process
        finally:
            await recover(nats, mongo)


@asynccontextmanager
async def blocked(made: Rig, command: str, block_ms: int) -> AsyncIterator[None]:
    """Let MongoDB take its time for the next such command of the program; at the end, wait until it has come."""
    admin = made.db.client.admin
    data: dict[str, Any] = {"failCommands": [command], "blockConnection": True, "blockTimeMS": block_ms}
    before = await admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=data)
    yield
    await admin.command("waitForFailPoint", "failCommand", timesEntered=before["count"] + 1, maxTimeMS=20_000)


async def stopped(process: Process) -> Ended:
    async with asyncio.timeout(BUDGET):
        return await ended(process, signal.SIGTERM)


@pytest.mark.parametrize("fault", FAULTS)
async def test_sigterm_without_work_in_hand_exits_with_0_within_8_seconds(
    own_nats: NatsServer, own_mongo: MongoServer, site: str, fault: str
) -> None:
    async with running_site(own_nats, own_mongo, site) as (_, process):
        await FAULTS[fault](own_nats, own_mongo)
        assert (end := await stopped(process)).code == 0, end.err


@pytest.mark.parametrize("fault", FAULTS)
async def test_sigterm_with_a_batch_in_hand_exits_with_1_and_its_next_owner_finishes_it(
    own_nats: NatsServer, own_mongo: MongoServer, site: str, fault: str
) -> None:
    async with running_site(own_nats, own_mongo, site) as (made, process):
        async with blocked(made, "commitTransaction", 1_000 if fault in NATS_FAULTS else 60_000):
            request_id = await made.publish("create", events.create("r1", "bob"))
        await FAULTS[fault](own_nats, own_mongo)
        end = await stopped(process)
        assert end.code == 1
        assert "their next owner finishes it" in end.err, end.err
        await recover(own_nats, own_mongo)
        async with made.worker():
            assert (await made.result(request_id))["status"] == "ok"


@pytest.mark.parametrize("fault", ["mongod hangs", "both hang"])
async def test_sigterm_with_a_request_in_hand_exits_with_0_within_8_seconds(
    own_nats: NatsServer, own_mongo: MongoServer, site: str, fault: str
) -> None:
    async with running_site(own_nats, own_mongo, site) as (made, process):
        await made.db.rooms.insert_one(room("r1", 7))
        async with blocked(made, "find", 60_000):
            asking = asyncio.create_task(Asker(made.nc, site).get("bob", "r1"))
        await FAULTS[fault](own_nats, own_mongo)
        assert (end := await stopped(process)).code == 0, end.err
        asking.cancel()


async def test_sigterm_with_a_batch_in_hand_finishes_it(
    own_nats: NatsServer, own_mongo: MongoServer, site: str
) -> None:
    async with running_site(own_nats, own_mongo, site) as (made, process):
        async with blocked(made, "commitTransaction", 1_000):
            request_id = await made.publish("create", events.create("r1", "bob"))
        assert (end := await stopped(process)).code == 0, end.err
        assert (await made.result(request_id))["status"] == "ok"
        assert len(made.of(subjects.room_key("bob"))) == 1
