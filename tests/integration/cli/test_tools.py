"""`room-worker publish`, `tail` and `status`, with a worker, without one, and without servers."""

import asyncio
import signal

import orjson
import pytest

from roomkeys import subjects
from roomkeys.keys import RoomKey
from roomkeys.messages.room_key import RoomKeyEvent, marshal
from tests.harness import events
from tests.harness.processes import child, ended, run, running, says, variables
from tests.harness.site import Rig
from worker.local.ports import free_port
from worker.local.servers import NatsServer

ALICE = ("--requester", "alice")
ROOM = ("--room", "r1", *ALICE)


async def test_publish_shows_results_and_tail_shows_keys_without_their_bytes(site_rig: Rig) -> None:
    env = variables(site_rig)
    await site_rig.users("alice", "bob", "dave")
    async with site_rig.worker(), running("tail", "bob", "--count", "2", "--json", env=env) as tail:
        await says(tail, "listening", on_stderr=True)
        created = await run("publish", "create", *ROOM, "--name", "general", "--user", "bob", "--json", env=env)
        assert (created.code, created.json()["result"]["status"]) == (0, "ok"), created
        assert created.json()["sequence"] == 1
        added = await run("publish", "add", *ROOM, "--user", "dave", env=env)
        assert (added.code, added.out) == (0, "event 2: ok  room.member.add\n")
        rotated = await run("publish", "rotate", *ROOM, "--reason", "leaked", env=env)
        assert (rotated.code, rotated.out) == (0, "event 3: ok  room.key.rotate\n")
        heard = await ended(tail)
        removed = await run("publish", "remove", *ROOM, "--user", "bob", env=env)
        assert removed.code == 0
    assert heard.code == 0
    lines = [orjson.loads(line) for line in heard.out.splitlines()]
    keys = [line for line in lines if line["type"] == "key"]
    assert [(line["roomId"], line["version"]) for line in keys] == [("r1", 0), ("r1", 1)]
    assert keys[0]["fingerprint"] != keys[1]["fingerprint"]
    joined = [(line["action"], line["roomName"]) for line in lines if line["type"] == "subscription"]
    assert joined == [("added", "general")]
    assert [version for version, _ in site_rig.keys("bob")] == [0, 1]
    for sent in site_rig.of(subjects.room_key("bob")):
        assert sent["privateKey"] not in heard.out + heard.err


async def test_tail_masks_keys_and_exits_with_0_on_ctrl_c(site_rig: Rig) -> None:
    env = variables(site_rig)
    await site_rig.users("alice", "bob")
    async with site_rig.worker(), running("tail", "bob", env=env) as tail:
        await says(tail, "listening", on_stderr=True)
        await run("publish", "create", *ROOM, "--name", "general", "--user", "bob", env=env)
        line = await says(tail, "key ")
        heard = await ended(tail, signal.SIGINT)
    assert "r1  v0 ••••  sha256:" in line
    assert heard.code == 0


async def test_tail_starts_with_current_keys_and_warns_of_a_second_key_for_a_version(site_rig: Rig) -> None:
    env = variables(site_rig)
    await site_rig.users("alice", "bob")
    async with site_rig.worker():
        await run("publish", "create", *ROOM, "--name", "general", "--user", "bob", env=env)
        await run("publish", "rotate", *ROOM, env=env)
        async with running("tail", "bob", "--json", env=env) as tail:
            line = orjson.loads(await says(tail, "key"))
            assert (line["type"], line["roomId"], line["version"]) == ("key", "r1", 1)
            await says(tail, "listening", on_stderr=True)
            forged = marshal(RoomKeyEvent("r1", RoomKey.generate(1)), 5)
            await site_rig.nc.publish(subjects.room_key("bob"), forged)
            await says(tail, "received another key for room r1 version 1: keeping the first", on_stderr=True)
            heard = await ended(tail, signal.SIGINT)
    assert (heard.code, heard.out) == (0, "")


async def test_tail_continues_after_the_server_was_down(own_nats: NatsServer) -> None:
    env = {"NATS_URL": own_nats.url}
    async with running("tail", "bob", "--count", "1", env=env) as tail:
        await says(tail, "listening", on_stderr=True)
        await own_nats.kill()
        await says(tail, "connection lost", on_stderr=True)
        await own_nats.start()
        await says(tail, "connection restored", on_stderr=True)
        stopped = await ended(tail, signal.SIGTERM)
    assert stopped.code == 0


async def test_publish_shows_an_error_result_and_exits_with_1(site_rig: Rig) -> None:
    await site_rig.users("alice")
    async with site_rig.worker():
        refused = await run("publish", "rotate", *ROOM, env=variables(site_rig))
    assert refused.code == 1
    assert refused.out == "event 1: error  not_found / room_not_found: the room does not exist\n"


async def test_publish_without_a_worker_reports_a_missing_result(site_rig: Rig) -> None:
    env = variables(site_rig)
    late = await run("publish", "rotate", *ROOM, "--timeout", "0.2", env=env)
    assert late.code == 1
    assert "no result of event 1" in late.err
    waiting = await run("publish", "rotate", *ROOM, "--no-wait", "--json", env=env)
    assert (waiting.code, waiting.json()["sequence"]) == (0, 2)


async def test_request_published_twice_is_stored_once(site_rig: Rig) -> None:
    request = ("--request-id", "00000000-0000-4000-8000-000000000001", "--no-wait", "--json")
    ended_ = [await run("publish", "rotate", *ROOM, *request, env=variables(site_rig)) for _ in range(2)]
    assert [item.json()["sequence"] for item in ended_] == [1, 1]


async def test_publish_without_a_stream_says_what_to_do(site_rig: Rig) -> None:
    missing = await run("publish", "rotate", *ROOM, env=variables(site_rig, SITE_ID=f"{site_rig.site}x"))
    assert missing.code == 1
    assert "BOOTSTRAP_STREAMS" in missing.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("publish", "rotate", "--room", "a b", *ALICE),
        ("publish", "rotate", "--room", "r" * 300, *ALICE),
        ("publish", "create", *ROOM, "--name", "n" * 1_025),
        ("publish", "add", *ROOM, "--org", ""),
        ("publish", "add", *ROOM, "--user", "dave", "--user", "a*"),
        ("publish", "rotate", "--room", "r1", "--requester", "a.b"),
        ("publish", "rotate", *ROOM, "--request-id", "seven"),
        ("publish", "remove", *ROOM),
        ("publish", "remove", *ROOM, "--user", "bob", "--org", "eng"),
        ("tail", "a.*"),
        ("deadletters", "replay"),
        ("deadletters", "replay", "1", "--all"),
    ],
)
async def test_contradictory_arguments_are_refused_before_connecting(arguments: tuple[str, ...]) -> None:
    refused = await run(*arguments, env={"NATS_URL": "nats://127.0.0.1:1"})
    assert refused.code == 2
    assert "Usage: room-worker" in refused.err


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("--room", "a b", "a token: 1 to 255 bytes, without '.', '*', '>', white space and control characters"),
        ("--room", "r" * 300, "a token: 1 to 255 bytes"),
        ("--user", "dave.smith", "an account: a token: 1 to 255 bytes"),
        ("--org", "", "the id of an org: 1 to 1024 characters"),
    ],
)
async def test_an_argument_that_the_worker_would_reject_is_named_with_what_it_must_be(
    option: str, value: str, text: str
) -> None:
    refused = await run("publish", "add", *ROOM, option, value, env={"NATS_URL": "nats://127.0.0.1:1"})
    assert refused.code == 2
    assert f"Invalid value for '{option}': it must be {text}" in refused.err


@pytest.mark.parametrize(
    "arguments",
    [("publish", "rotate", *ROOM), ("tail", "bob"), ("status",), ("deadletters", "list"), ("deadletters", "show", "1")],
)
async def test_server_that_is_down_is_reported_in_one_line_without_passwords(arguments: tuple[str, ...]) -> None:
    port = free_port()
    env = {
        "NATS_URL": f"nats://joe:hunter2@127.0.0.1:{port}",
        "MONGO_URI": f"mongodb://joe:hunter2@127.0.0.1:{port}/?replicaSet=rs0&serverSelectionTimeoutMS=200",
    }
    failed = await run(*arguments, env=env)
    assert failed.code == 1
    assert len(failed.err.splitlines()) == 1
    assert f"127.0.0.1:{port}" in failed.err
    assert "hunter2" not in failed.err + failed.out


async def test_status_knows_no_lag_of_a_stream_that_is_missing_or_was_re_created(site_rig: Rig) -> None:
    name, jetstream = subjects.events_stream(site_rig.site), site_rig.nc.jetstream()
    await site_rig.users("alice", "bob")
    async with site_rig.worker():
        await site_rig.ask("create", events.create("r9", "bob"))
    await jetstream.delete_stream(name)
    for create in (False, True):
        if create:
            await jetstream.add_stream(name=name, subjects=[subjects.events_subjects(site_rig.site)])
        report = (await run("status", "--json", env=variables(site_rig))).json()
        assert None in {cursor["behind"] for cursor in report["cursors"]}
        assert "behind        unknown" in (await run("status", env=variables(site_rig))).out


async def test_status_shows_owners_lag_rotations_and_dead_letters(site_rig: Rig) -> None:
    env = variables(site_rig)
    await site_rig.users("alice", "bob")
    never = await run("status", env=env)
    assert (never.code, "no worker has been started" in never.out) == (0, True)
    async with site_rig.worker():
        await site_rig.ask("member.add", events.add("unknown", "bob"))
        await site_rig.ask("create", events.create("r9", "bob", name="x"))
        running_ = (await run("status", "--json", env=env)).json()
    assert running_["partitions"] == len(running_["cursors"]) == 8
    assert len(running_["replicas"]) == 1
    assert {cursor["owner"] for cursor in running_["cursors"]} == set(running_["replicas"])
    assert (running_["lastSequence"], running_["deadLetters"], running_["rotating"]) == (2, 1, [])
    await site_rig.publish("key.rotate", events.rotate("r9"))
    stopped = (await run("status", "--json", env=env)).json()
    assert {cursor["owner"] for cursor in stopped["cursors"]} == {None}
    assert max(cursor["behind"] for cursor in stopped["cursors"]) >= 1
    assert stopped["oldestSeconds"] > 0
    assert "no owner" in (await run("status", env=env)).out
    await _die_before_settling(site_rig)
    died = (await run("status", "--json", env=env)).json()
    assert {"roomId": "r9", "version": 1, "inUse": 0} in died["rotating"]
    assert "r9 to v1" in (await run("status", env=env)).out


async def test_status_shows_rooms_that_are_set_aside(site_rig: Rig) -> None:
    async with site_rig.worker():
        await site_rig.until_owned()
    waiting = {"waitingRoom": "r9", "tries": 3, "failures": 2}
    ids = [f"{site_rig.site}.4.waiting.{number:030d}" for number in range(3)]
    await site_rig.db.room_worker_outbox.insert_many([{"_id": id_, **waiting} for id_ in ids])
    shown = (await run("status", "--json", env=variables(site_rig))).json()
    assert shown["setAside"] == [{"roomId": "r9", "events": 3, "failures": 2}]
    assert "r9 (3 events, failed 2 times)" in (await run("status", env=variables(site_rig))).out


async def _die_before_settling(site_rig: Rig) -> None:
    """Run a worker that is killed once it has sent a new key, before the key is in use.

    The waiting event must be the only one: the partitions are served at the same time, and the kill comes with
    the first key of any of them.
    """
    async with child(site_rig, AT_STEP="settle:before:1") as doomed:
        await asyncio.wait_for(doomed.wait(), 20)
