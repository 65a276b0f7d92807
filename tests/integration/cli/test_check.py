"""`room-worker check`: its results, its exit codes, and its advice on how to fix what is wrong."""

import asyncio
import os
import pty
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nats
import orjson
import pytest
from nats.js.api import RetentionPolicy
from pymongo import AsyncMongoClient

from roomkeys import subjects
from roomkeys.events.position import StreamPosition
from store.leases.lease import ensure_cursors
from tests.harness.processes import ROOM_WORKER, Ended, run, variables
from tests.harness.site import Rig
from worker.app import open_database
from worker.local.ports import free_port
from worker.local.servers import MongoServer, NatsServer


@pytest.fixture
def database(new_database: str) -> str:
    """Begin without collections and indexes: they are among what is checked."""
    return new_database


async def check(env: dict[str, str]) -> tuple[Ended, dict[str, dict[str, Any]]]:
    """Run the check and return its results by part."""
    stopped = await run("check", "--json", env=env)
    return stopped, {finding["part"]: finding for finding in stopped.json()["findings"]}


async def test_check_exits_with_0_and_prints_one_line_per_check_when_all_is_right(site_rig: Rig) -> None:
    await site_rig.users("alice")
    stopped = await run("check", env=variables(site_rig))
    assert stopped.code == 0, stopped.out
    lines = stopped.out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    parts = ["settings", "nats", "jetstream", "events", "dead letters", "mongodb", "replica set"]
    parts += ["mongodb permissions", "transactions"]
    parts += ["index subscriptions", "index room_members", "index users", "index rooms", "partitions", "clock", "users"]
    parts += ["profiling", "site"]
    assert [line.removeprefix("ok").strip().split("  ")[0] for line in lines] == parts


async def test_check_after_a_first_start_reports_indexes_and_stored_partitions(site_rig: Rig) -> None:
    async with site_rig.worker():
        await site_rig.ask("create", {"roomId": "r1", "requesterAccount": "nobody"})
    stopped, findings = await check(variables(site_rig))
    assert stopped.json()["ok"] is True
    assert findings["index subscriptions"]["text"] == "present"
    assert findings["partitions"]["text"] == "8, as stored"


async def test_check_reports_each_server_that_is_down_without_passwords() -> None:
    port = free_port()
    env = {
        "NATS_URL": f"nats://joe:hunter2@127.0.0.1:{port}",
        "MONGO_URI": f"mongodb://joe:hunter2@127.0.0.1:{port}/?replicaSet=rs0",
    }
    stopped, findings = await check(env)
    assert stopped.code == 1
    assert "set NATS_URL" in findings["nats"]["text"]
    assert "set MONGO_URI" in findings["mongodb"]["text"]
    assert "hunter2" not in stopped.out + stopped.err


async def test_check_ends_when_a_server_accepts_connections_but_stays_silent(silent: int, site_rig: Rig) -> None:
    env = variables(site_rig, NATS_URL=f"nats://127.0.0.1:{silent}", MONGO_URI=f"mongodb://127.0.0.1:{silent}/")
    stopped, findings = await check(env)
    assert stopped.code == 1
    assert not findings["nats"]["ok"]
    assert not findings["mongodb"]["ok"]


async def test_check_names_the_replica_set_when_it_is_the_wrong_one(site_rig: Rig) -> None:
    host = urlsplit(site_rig.settings.mongo_uri.get_secret_value()).netloc
    stopped, findings = await check(variables(site_rig, MONGO_URI=f"mongodb://{host}/?replicaSet=other"))
    assert stopped.code == 1
    assert "replica set other" in findings["mongodb"]["text"]


async def test_check_fails_when_streams_are_missing_unless_the_worker_creates_them(site_rig: Rig) -> None:
    env = variables(site_rig, SITE_ID=f"{site_rig.site}x")
    stopped, findings = await check(env)
    assert stopped.code == 1
    assert "BOOTSTRAP_STREAMS" in findings["events"]["text"]
    assert not findings["dead letters"]["ok"]
    stopped, findings = await check({**env, "BOOTSTRAP_STREAMS": "true"})
    assert stopped.code == 0


async def test_check_fails_when_the_stream_does_not_keep_events(site_rig: Rig) -> None:
    site = f"{site_rig.site}q"
    await site_rig.nc.jetstream().add_stream(
        name=subjects.events_stream(site),
        subjects=[subjects.events_subjects(site)],
        retention=RetentionPolicy.WORK_QUEUE,
    )
    _, findings = await check(variables(site_rig, SITE_ID=site, BOOTSTRAP_STREAMS="true"))
    assert "recreate it with retention limits" in findings["events"]["text"]
    assert findings["dead letters"]["ok"]


async def test_check_fails_when_partitions_differ_from_the_stored_number(site_rig: Rig) -> None:
    database = open_database(site_rig.settings)
    await ensure_cursors(database, site_rig.site, 3, StreamPosition(0, 0, 0))
    await database.close()
    stopped, findings = await check(variables(site_rig))
    assert stopped.code == 1
    assert findings["partitions"]["text"].startswith("PARTITIONS must be 3")


async def test_check_warns_when_an_index_is_not_unique(site_rig: Rig) -> None:
    await site_rig.db.subscriptions.create_index([("roomId", 1), ("u.account", 1)])
    stopped, findings = await check(variables(site_rig))
    assert stopped.code == 0
    assert findings["index subscriptions"]["warning"]
    assert "no unique index on (roomId, u.account): run db.subscriptions.createIndex" in stopped.out


async def test_check_fails_when_there_are_duplicates(site_rig: Rig) -> None:
    await site_rig.db.subscriptions.insert_many([{"roomId": "r1", "u": {"account": "bob"}} for _ in range(2)])
    stopped, findings = await check(variables(site_rig))
    assert stopped.code == 1
    assert "several documents with roomId 'r1', u.account 'bob'" in findings["index subscriptions"]["text"]


async def test_check_accepts_an_index_that_serves_as_well(site_rig: Rig) -> None:
    await site_rig.db.users.create_index("account", unique=True, name="account_idx")
    stopped, findings = await check(variables(site_rig))
    assert stopped.code == 0
    assert findings["index users"]["text"] == "the worker creates sectId_1_account_1, deptId_1_account_1 when it starts"


async def test_check_warns_of_a_site_without_users(site_rig: Rig) -> None:
    stopped, findings = await check(variables(site_rig))
    assert stopped.code == 0
    assert findings["users"]["warning"]


@pytest.mark.parametrize(
    ("level", "slow_ms", "word"), [(0, 100, "off"), (0, 0, "slowms 0"), (1, 100, "level 1"), (2, 100, "level 2")]
)
async def test_check_warns_when_mongodb_keeps_the_bytes_of_keys(
    site_rig: Rig, own_mongo: MongoServer, level: int, slow_ms: int, word: str
) -> None:
    async with AsyncMongoClient[dict[str, Any]](own_mongo.uri) as client:
        await client[site_rig.settings.mongo_db].command("profile", level, slowms=slow_ms)
    stopped, findings = await check(variables(site_rig, MONGO_URI=own_mongo.uri))
    assert stopped.code == 0
    assert word in findings["profiling"]["text"]
    assert findings["profiling"]["warning"] is (word != "off")


async def test_check_names_the_credentials_when_they_are_refused(tmp_path: Path, site_rig: Rig) -> None:
    async with NatsServer(tmp_path, config="authorization { user: joe, password: hunter2 }") as server:
        refused, findings = await check(variables(site_rig, NATS_URL=server.url))
        assert refused.code == 1
        assert "NATS_USER" in findings["nats"]["text"]
        login = {"NATS_USER": "joe", "NATS_PASSWORD": "hunter2"}
        accepted, findings = await check({**variables(site_rig, NATS_URL=server.url), **login})
        assert findings["nats"]["ok"]
        assert "hunter2" not in accepted.out


async def test_check_warns_of_each_stream_that_stores_keys_replies_or_results(tmp_path: Path, site_rig: Rig) -> None:
    async with NatsServer(tmp_path) as server, await nats.connect(server.url) as client:
        for name, subject in (
            ("ALL", "chat.user.*.event.>"),
            ("RESULTS", "chat.user.*.response.>"),
            ("IN", "_INBOX.x"),
        ):
            await client.jetstream().add_stream(name=name, subjects=[subject])
        await client.jetstream().add_stream(name="OTHER", subjects=["chat.user.*.request.>"])
        env = variables(site_rig, NATS_URL=server.url, BOOTSTRAP_STREAMS="true")
        stopped = await run("check", "--json", env=env)
    others = [found for found in stopped.json()["findings"] if found["part"] == "other streams"]
    assert stopped.code == 0
    assert all(found["warning"] for found in others)
    assert sorted(found["text"].split(":")[0] for found in others) == [
        "ALL stores room keys (chat.user.*.event.room.key)",
        "IN stores replies of the key service, keys included (_INBOX.>)",
        "RESULTS stores results (chat.user.*.response.*)",
    ]


@pytest.mark.parametrize("user_info", [[], ["$SYS.REQ.USER.INFO"]], ids=["not allowed to ask", "allowed to ask"])
async def test_check_without_its_own_rights_checks_the_rest_and_names_them(
    tmp_path: Path, site_rig: Rig, user_info: list[str]
) -> None:
    """It used to blame the load of the server: a denied request has no answer."""
    deny = ["$JS.API.INFO", "$JS.API.STREAM.NAMES", "$SYS.REQ.USER.INFO"]
    permissions = {"publish": {"deny": [subject for subject in deny if subject not in user_info]}}
    users = {"users": [{"user": "joe", "password": "hunter2", "permissions": permissions}]}
    async with NatsServer(tmp_path, config=f"authorization: {orjson.dumps(users).decode()}") as server:
        login = {"NATS_USER": "joe", "NATS_PASSWORD": "hunter2"}
        _, findings = await check({**variables(site_rig, NATS_URL=server.url), **login})
    named = "publish $JS.API.INFO, publish $JS.API.STREAM.NAMES"
    assert findings["permissions"]["text"] == f"not checked without {named}, which only `check` needs"
    assert findings["permissions"]["warning"]
    assert "is missing: create it" in findings["events"]["text"]
    assert "overloaded" not in "".join(found["text"] for found in findings.values())


async def test_check_names_each_denied_right_and_what_uses_it(tmp_path: Path, site_rig: Rig) -> None:
    deny = ["chat.user.*.event.room.key", "$JS.API.STREAM.INFO.>"]
    permissions = {"publish": {"deny": deny}, "subscribe": {"deny": ["chat.user.*.request.>"]}}
    users = {"users": [{"user": "joe", "password": "hunter2", "permissions": permissions}]}
    async with NatsServer(tmp_path, config=f"authorization: {orjson.dumps(users).decode()}") as server:
        login = {"NATS_USER": "joe", "NATS_PASSWORD": "hunter2"}
        stopped, findings = await check({**variables(site_rig, NATS_URL=server.url), **login})
    text = findings["permissions"]["text"]
    assert (stopped.code, findings["permissions"]["ok"]) == (1, False)
    for right in (
        "publish chat.user.*.event.room.key",
        f"publish $JS.API.STREAM.INFO.ROOMS_{site_rig.site}",
        f"publish $JS.API.STREAM.INFO.ROOMS_DEADLETTER_{site_rig.site}",
        f"subscribe to chat.user.*.request.rooms.{site_rig.site}.keys.sync",
    ):
        assert right in text, text


async def test_check_reports_wrong_settings_and_exits_with_2() -> None:
    stopped, findings = await check({"SITE_ID": "a.b"})
    assert stopped.code == 2
    assert any("SITE_ID must be" in finding["text"] for finding in stopped.json()["findings"])
    assert set(findings) == {"settings"}


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
async def test_output_on_a_terminal_has_colours_unless_no_color_is_set(no_color: str, coloured: bool) -> None:
    terminal, other_end = pty.openpty()
    script = f"exec {ROOM_WORKER} check >{os.ttyname(other_end)}"
    env = {"SITE_ID": "a.b", "TERM": "xterm", "NO_COLOR": no_color}
    stopped = await run("-c", script, env=env, program="sh")
    os.close(other_end)
    shown = os.read(terminal, 65_536).decode()
    os.close(terminal)
    assert stopped.code == 2
    assert "SITE_ID must be" in shown
    assert ("\x1b[" in shown) is coloured


@pytest.fixture
async def silent() -> AsyncIterator[int]:
    """Listen on a port, accept connections, and never send anything."""
    done = asyncio.Event()

    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    done.set()
    server.close()
    await server.wait_closed()
