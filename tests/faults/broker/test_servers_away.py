"""Servers that go away, come back, or come back as somebody else: nothing is lost."""

from typing import Any

import pytest
from nats.js.api import StreamConfig

from roomkeys import subjects
from roomkeys.decisions import decide
from tests.faults.machinery.scenario import caught_up
from tests.harness import events
from tests.harness.site import Rig, rig
from worker.local.servers import MongoServer, NatsServer
from worker.telemetry.metrics import STREAM_FAULTS

CREATE = events.create("r1", "bob", "carol")
REMOVE_BOB = events.remove("r1", account="bob")
ROTATE = events.rotate("r1")


async def test_a_killed_broker_that_comes_back_loses_no_event(
    own_nats: NatsServer, mongo_uri: str, database: str, site: str
) -> None:
    async with rig(own_nats.url, mongo_uri, database, site) as made:
        await made.users("alice", "bob", "carol")
        async with made.worker():
            await made.ask("create", CREATE)
            await own_nats.kill()
            await own_nats.start()
            await caught_up(made)
            removed = await made.ask("member.remove", REMOVE_BOB)
        assert removed["status"] == "ok"
        assert made.keys("carol")[-1][0] == 1
        assert [version for version, _ in made.keys("bob")] == [0]


async def test_a_stream_that_was_made_anew_is_an_error_that_is_counted_and_its_new_events_are_read(
    site_rig: Rig,
) -> None:
    await site_rig.users("alice", "bob", "carol")
    stream, subject = subjects.events_stream(site_rig.site), subjects.events_subjects(site_rig.site)
    jetstream = site_rig.nc.jetstream()
    async with site_rig.worker():
        await site_rig.ask("create", CREATE)
        for _ in range(3):
            await site_rig.ask("key.rotate", ROTATE)
    faults = STREAM_FAULTS._value.get()
    await jetstream.delete_stream(stream)
    await jetstream.add_stream(StreamConfig(name=stream, subjects=[subject]))
    async with site_rig.worker():
        removed = await site_rig.ask("member.remove", REMOVE_BOB)
        await site_rig.ask("key.rotate", ROTATE)
    assert removed["status"] == "ok"
    assert STREAM_FAULTS._value.get() > faults
    assert (await site_rig.room("r1"))["encKey"]["ver"] == 5


async def test_a_stream_that_is_made_anew_under_a_running_worker_is_noticed(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob", "carol")
    stream, subject = subjects.events_stream(site_rig.site), subjects.events_subjects(site_rig.site)
    jetstream = site_rig.nc.jetstream()
    async with site_rig.worker():
        await site_rig.ask("create", CREATE)
        await site_rig.ask("key.rotate", ROTATE)
        await jetstream.delete_stream(stream)
        await jetstream.add_stream(StreamConfig(name=stream, subjects=[subject]))
        removed = await site_rig.ask("member.remove", REMOVE_BOB)
    assert removed["status"] == "ok"


async def test_events_that_wait_while_no_worker_runs_are_worked_off_in_order(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob", "carol", "dave")
    ids = [await site_rig.publish("create", CREATE)]
    for _ in range(20):
        ids.append(await site_rig.publish("member.add", events.add("r1", "dave")))
        ids.append(await site_rig.publish("member.remove", events.remove("r1", account="dave")))
    async with site_rig.worker():
        results = [await site_rig.result(request_id) for request_id in ids]
    assert {item["status"] for item in results} == {"ok"}
    assert (await site_rig.room("r1"))["encKey"]["ver"] == 20
    assert set(await site_rig.members("r1")) == {"alice", "bob", "carol"}


async def test_a_database_that_is_killed_and_comes_back_loses_no_event(
    nats_url: str, own_mongo: MongoServer, site: str
) -> None:
    async with rig(nats_url, own_mongo.uri, "chat", site) as made:
        await made.users("alice", "bob", "carol")
        async with made.worker():
            await made.ask("create", CREATE)
            await own_mongo.kill()
            request_id = await made.publish("member.remove", REMOVE_BOB)
            await own_mongo.start()
            removed = await made.result(request_id)
        assert removed["status"] == "ok"
        assert set(made.keys("alice")) == set(made.keys("carol"))
        assert [version for version, _ in made.keys("bob")] == [0]
        assert made.of(subjects.dead_letter_subject(site)) == []


async def test_a_worker_waits_for_servers_that_are_not_there_yet(
    own_nats: NatsServer, own_mongo: MongoServer, site: str
) -> None:
    async with rig(own_nats.url, own_mongo.uri, "chat", site) as made:
        await made.users("alice", "bob", "carol")
        await own_nats.kill()
        await own_mongo.kill()
        async with made.worker():
            await own_mongo.start()
            await own_nats.start()
            await caught_up(made)
            created = await made.ask("create", CREATE)
    assert created["status"] == "ok"


@pytest.mark.parametrize("code", [43, 134, 211, 8], ids=["cursor", "majority", "signing", "unknown"])
async def test_a_database_that_refuses_reads_for_a_while_costs_no_event(
    nats_url: str, own_mongo: MongoServer, site: str, code: int
) -> None:
    """Also for a cause that nobody knows: an event is given up only after it has failed for seconds."""
    async with rig(nats_url, own_mongo.uri, "chat", site) as made:
        await made.users("alice", "bob", "carol")
        async with made.worker():
            await made.ask("create", CREATE)
            refusal = {"failCommands": ["find"], "errorCode": code, "appName": "room-worker"}
            await made.db.client.admin.command("configureFailPoint", "failCommand", mode={"times": 6}, data=refusal)
            removed = await made.ask("member.remove", REMOVE_BOB)
        assert removed["status"] == "ok"
        assert made.of(subjects.dead_letter_subject(site)) == []


async def test_a_doubtful_give_up_is_not_taken_out_on_the_next_event(
    nats_url: str, own_mongo: MongoServer, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dead letter was committed, but the answer was lost: the next event starts at zero failures."""
    decided = decide.decide

    def stumble(events: Any, *args: Any, **kwargs: Any) -> Any:
        if any(event.room_id == "cursed" for event in events):
            raise RuntimeError
        return decided(events, *args, **kwargs)

    monkeypatch.setattr("worker.pipeline.writer.decide", stumble)
    async with rig(nats_url, own_mongo.uri, "chat", site) as made:
        made.limit(set_aside_pause_s=0.05)
        await made.users("alice", "bob", "carol")
        async with made.worker(partitions=1):
            await made.ask("create", CREATE)
            doubt = {"failCommands": ["commitTransaction"], "writeConcernError": {"code": 64, "errmsg": "slow"}}
            await made.db.client.admin.command("configureFailPoint", "failCommand", mode={"times": 2}, data=doubt)
            cursed = await made.publish("create", {**CREATE, "roomId": "cursed"})
            healthy = await made.publish("create", {**CREATE, "roomId": "r2"})
            assert (await made.result(cursed))["reason"] == "internal"
            assert (await made.result(healthy))["status"] == "ok"
