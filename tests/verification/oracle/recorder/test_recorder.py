"""The recorder: what it records, which gaps it reports, and that it survives outages."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from tests.harness import events
from tests.harness.site import Rig, rig
from tests.verification.oracle.judge import find_violations
from tests.verification.oracle.plan import Plan, publish
from tests.verification.oracle.recorder import Recorder, recorder
from tests.verification.oracle.recording import ChangeKind, MessageKind, Recording
from worker.local.servers import MongoServer, NatsServer

PLAN = Plan(("r0", "r1"), ("u0", "u1", "u2", "u3", "u4"))
REMOVE = events.remove("r0", requester="u0", account="u1")


async def create(made: Rig) -> None:
    for suffix, body in PLAN.creates():
        await made.result(await publish(made, suffix, body))


async def test_broker_outage_leaves_a_gap_and_later_messages_are_recorded(
    own_nats: NatsServer, mongo_uri: str, database: str, site: str
) -> None:
    async with rig(own_nats.url, mongo_uri, database, site) as made:
        await PLAN.create_users(made)
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
    assert find_violations(recording) == []


async def test_database_outage_loses_no_change(nats_url: str, own_mongo: MongoServer, site: str) -> None:
    async with rig(nats_url, own_mongo.uri, "chat", site) as made:
        await PLAN.create_users(made)
        async with recorder([nats_url], made.db, site) as record, made.worker():
            await create(made)
            await own_mongo.kill()
            await publish(made, "member.remove", REMOVE)
            await own_mongo.start()
            recording = await record.finish()
    seen = [(one.kind, one.account or one.version) for one in recording.changes if one.room == "r0"]
    assert seen[-5:] == [
        (ChangeKind.HIGH, 1),
        (ChangeKind.STAGED, 1),
        (ChangeKind.LEFT, "u1"),
        (ChangeKind.CURRENT, 1),
        (ChangeKind.STAGED, None),
    ]
    assert len(recording.arrived_by) == len(recording.changes)
    assert recording.gaps == []
    assert find_violations(recording) == []


async def test_recording_can_begin_with_existing_rooms(site_rig: Rig) -> None:
    await PLAN.create_users(site_rig)
    async with site_rig.worker():
        await create(site_rig)
        await site_rig.ask("member.add", events.add("r0", requester="u0", orgs=["eng"]))
        await site_rig.ask("member.remove", REMOVE)
        await site_rig.ask("key.rotate", events.rotate("r0", requester="nobody"))
    urls = site_rig.settings.nats_url
    async with recorder(urls, site_rig.db, site_rig.site) as record, site_rig.worker():
        for room_id in PLAN.rooms:
            await publish(site_rig, "member.remove", events.remove(room_id, requester="u0", account="u2"))
        await publish(site_rig, "member.remove", events.remove("r0", requester="u0", orgId="eng"))
        recording = await record.finish()
    assert recording.applied_before == 5
    assert set(recording.rooms_before["r0"].members) == {"u0", "u1", "u2", "u3"}
    assert len(recording.events) == 3
    assert find_violations(recording) == []


async def test_recording_can_leave_out_notices(site_rig: Rig) -> None:
    await PLAN.create_users(site_rig)
    kinds = {MessageKind.KEY, MessageKind.RESULT}
    async with recorder(site_rig.settings.nats_url, site_rig.db, site_rig.site, kinds) as record, site_rig.worker():
        await create(site_rig)
        recording = await record.finish()
    assert {message.kind for message in recording.messages} == {MessageKind.RESULT}
    assert len(recording.key_messages) == 8
    assert find_violations(recording) == []


async def test_two_listeners_record_one_run(site_rig: Rig) -> None:
    """In a cluster there is a listener at every node, and each of them receives everything."""
    await PLAN.create_users(site_rig)
    (url,) = site_rig.settings.nats_url
    async with recorder([url, url], site_rig.db, site_rig.site) as record, site_rig.worker():
        await create(site_rig)
        await site_rig.result(await publish(site_rig, "member.remove", REMOVE))
        recording = await record.finish()
    assert sorted(set(recording.listeners)) == [0, 1]
    assert recording.listeners.count(0) == recording.listeners.count(1) > 0
    assert find_violations(recording) == []


async def test_patience_ends_although_the_driver_swallows_a_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    async def unfinished(_: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return 1

    monkeypatch.setattr(Recorder, "_unfinished", unfinished)
    made = Recorder(Recording("site", {}), None, None)  # type: ignore[arg-type]  # this test reads no database
    with pytest.raises(AssertionError, match="not idle"):
        await asyncio.wait_for(made.until_idle(0.01), 5)
