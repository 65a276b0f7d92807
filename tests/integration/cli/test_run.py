"""`room-worker run`: wrong settings, servers that are down, and SIGTERM."""

import signal

import pytest

from roomkeys import subjects
from roomkeys.events.position import StreamPosition
from store.leases.lease import CURSORS, ensure_cursors
from tests.harness import events
from tests.harness.pages import until_status
from tests.harness.processes import ended, run, running, says, variables
from tests.harness.site import Rig
from worker.app import open_database
from worker.local.ports import free_port


async def test_run_names_each_wrong_setting_before_it_connects() -> None:
    wrong = {"SITE_ID": "a.b", "PARTITIONS": "0", "MONGO_URI": "x", "NATS_URL": "x", "HEALTH_ADDR": "x"}
    stopped = await run("run", env=wrong)
    assert stopped.code == 2
    lines = stopped.err.splitlines()
    assert sorted(line.split(" must be ")[0] for line in lines) == [f"room-worker: {name}" for name in sorted(wrong)]
    assert stopped.out == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_run_without_servers_waits_is_not_ready_and_can_be_stopped(number: signal.Signals) -> None:
    nowhere, health = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    env = {
        "NATS_URL": f"nats://{nowhere}",
        "MONGO_URI": f"mongodb://{nowhere}/?replicaSet=rs0",
        "HEALTH_ADDR": health,
        "METRICS_ADDR": "127.0.0.1:0",
    }
    async with running("run", env=env) as process:
        await says(process, nowhere, on_stderr=True)
        assert '"nats"' in await until_status(health, "/readyz", 503)
        stopped = await ended(process, number)
    assert stopped.code == 0
    assert "Traceback" not in stopped.err


async def test_run_without_a_database_logs_that_it_waits(site_rig: Rig) -> None:
    nowhere = f"mongodb://127.0.0.1:{free_port()}/?replicaSet=rs0&serverSelectionTimeoutMS=200"
    async with running("run", env=variables(site_rig, MONGO_URI=nowhere)) as process:
        line = await says(process, '"mongodb unavailable"', on_stderr=True)
        assert "ServerSelectionTimeoutError" in line
        stopped = await ended(process, signal.SIGTERM)
    assert stopped.code == 0


async def test_run_serves_until_sigterm_and_exits_with_0(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob")
    async with running("run", env=variables(site_rig)) as process:
        room = events.create("r1", "bob")
        assert (await site_rig.ask("create", room))["status"] == "ok"
        stopped = await ended(process, signal.SIGTERM)
    assert stopped.code == 0
    assert '"stopped"' in stopped.err
    owners = await site_rig.db[CURSORS].distinct("owner")
    assert owners == [None]


async def test_run_exits_with_2_when_partitions_differ_from_the_stored_number(site_rig: Rig) -> None:
    database = open_database(site_rig.settings)
    await ensure_cursors(database, site_rig.site, 3, StreamPosition(0, 0, 0))
    await database.close()
    stopped = await run("run", env=variables(site_rig))
    assert stopped.code == 2
    assert "room-worker: PARTITIONS must be 3" in stopped.err


async def test_run_exits_with_2_when_an_address_is_in_use(site_rig: Rig) -> None:
    async with running("run", env=variables(site_rig, HEALTH_ADDR=(taken := f"127.0.0.1:{free_port()}"))) as first:
        await says(first, '"ready"', on_stderr=True)
        stopped = await run("run", env=variables(site_rig, HEALTH_ADDR=taken))
    assert stopped.code == 2
    assert taken in stopped.err


async def test_run_logs_no_key_at_debug_level(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob")
    async with running("run", env=variables(site_rig, LOG_LEVEL="debug")) as process:
        room = events.create("r1", "bob")
        await site_rig.ask("create", room)
        stopped = await ended(process, signal.SIGTERM)
    (sent,) = site_rig.of(subjects.room_key("bob"))
    assert sent["privateKey"] not in stopped.err + stopped.out
