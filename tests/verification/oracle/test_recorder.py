"""The recorder: what it hears, what it knows that it has missed, and that it comes back."""

from tests.harness.site import Rig, rig
from tests.verification.oracle.judge import judge
from tests.verification.oracle.plan import Plan, publish
from tests.verification.oracle.recorder import recorder
from tests.verification.oracle.recording import Kind, What
from worker.local.servers import MongoServer, NatsServer

PLAN = Plan(("r0", "r1"), ("u0", "u1", "u2", "u3", "u4"))
REMOVE = {"roomId": "r0", "requester": "u0", "account": "u1"}


async def create(made: Rig) -> None:
    for suffix, body in PLAN.creates():
        await made.result(await publish(made, suffix, body))


async def test_a_broker_that_was_away_leaves_a_gap_and_all_that_comes_after_it_is_heard(
    own_nats: NatsServer, mongo_uri: str, database: str, site: str
) -> None:
    async with rig(own_nats.url, mongo_uri, database, site) as made:
        await PLAN.settle_in(made)
        async with recorder([own_nats.url], made.db, site) as record, made.worker():
            await create(made)
            assert record.recording.gaps == []
            await own_nats.kill()
            await own_nats.start()
            await record.round_trip()
            (gap,) = record.recording.gaps
            for suffix, body in PLAN.rotations():
                await publish(made, suffix, body)
            recording = await record.finish()
    assert gap.since_ms < gap.until_ms <= recording.events[-1].at_ms
    assert [(event.sequence, event.subject.rpartition(".")[2]) for event in recording.events[-2:]] == [
        (3, "rotate"),
        (4, "rotate"),
    ]
    assert judge(recording) == []


async def test_a_database_that_was_away_costs_no_change(nats_url: str, own_mongo: MongoServer, site: str) -> None:
    async with rig(nats_url, own_mongo.uri, "chat", site) as made:
        await PLAN.settle_in(made)
        async with recorder([nats_url], made.db, site) as record, made.worker():
            await create(made)
            await own_mongo.kill()
            await publish(made, "member.remove", REMOVE)
            await own_mongo.start()
            recording = await record.finish()
    seen = [(one.what, one.account or one.version) for one in recording.changes if one.room == "r0"]
    assert seen[-5:] == [
        (What.HIGH, 1),
        (What.STAGED, 1),
        (What.LEFT, "u1"),
        (What.IN_USE, 1),
        (What.STAGED, None),
    ]
    assert len(recording.heard_by) == len(recording.changes)
    assert recording.gaps == []
    assert judge(recording) == []


async def test_a_recording_may_begin_when_rooms_are_there_already(site_rig: Rig) -> None:
    await PLAN.settle_in(site_rig)
    async with site_rig.worker():
        await create(site_rig)
        await site_rig.ask("member.add", {"roomId": "r0", "requesterAccount": "u0", "orgs": ["eng"]})
        await site_rig.ask("member.remove", REMOVE)
        await site_rig.ask("key.rotate", {"roomId": "r0", "requester": "nobody"})
    urls = site_rig.settings.nats_url
    async with recorder(urls, site_rig.db, site_rig.site) as record, site_rig.worker():
        for room_id in PLAN.rooms:
            await publish(site_rig, "member.remove", {"roomId": room_id, "requester": "u0", "account": "u2"})
        await publish(site_rig, "member.remove", {"roomId": "r0", "requester": "u0", "orgId": "eng"})
        recording = await record.finish()
    assert recording.since == 5
    assert set(recording.before["r0"].members) == {"u0", "u1", "u2", "u3"}
    assert len(recording.events) == 3
    assert judge(recording) == []


async def test_a_long_run_may_be_recorded_without_its_notices(site_rig: Rig) -> None:
    await PLAN.settle_in(site_rig)
    kinds = {Kind.KEY, Kind.RESULT}
    async with (
        recorder(site_rig.settings.nats_url, site_rig.db, site_rig.site, kinds) as record,
        site_rig.worker(),
    ):
        await create(site_rig)
        recording = await record.finish()
    assert {heard.kind for heard in recording.heard} == {Kind.RESULT}
    assert len(recording.keys) == 8
    assert judge(recording) == []


async def test_what_two_ears_hear_is_one_run(site_rig: Rig) -> None:
    """In a cluster there is an ear at every node, and each of them hears everything."""
    await PLAN.settle_in(site_rig)
    (url,) = site_rig.settings.nats_url
    async with recorder([url, url], site_rig.db, site_rig.site) as record, site_rig.worker():
        await create(site_rig)
        await site_rig.result(await publish(site_rig, "member.remove", REMOVE))
        recording = await record.finish()
    assert sorted(set(recording.ears)) == [0, 1]
    assert recording.ears.count(0) == recording.ears.count(1) > 0
    assert judge(recording) == []
