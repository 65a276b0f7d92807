"""Recovery: after a crash between any two steps, the next owner finishes the batch as it was decided."""

import asyncio
from typing import Any

import pytest

from roomkeys.decisions.decide import decide
from roomkeys.errors import Refused
from store.leases import heartbeats
from tests.harness import events
from tests.harness.gates import Crash, crash_at_call
from tests.harness.site import Rig
from worker.broker.connection import Broker
from worker.pipeline.deliver import Publisher
from worker.pipeline.loop import Loop

CREATE = events.create("r1", "bob", "carol")
STEPS: list[tuple[type, str]] = [
    (Publisher, "publish_notices"),
    (Publisher, "fan_out_keys"),
    (Broker, "_round_trip"),
    (Loop, "_settle"),
    (Publisher, "publish_results"),
    (Loop, "_announce"),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("owner", "name"), STEPS, ids=[name for _, name in STEPS])
async def test_a_crash_at_a_step_loses_nothing_and_rotates_once(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, *, after: bool
) -> None:
    await site_rig.users("alice", "bob", "carol", "dave")
    async with site_rig.worker():
        await site_rig.ask("create", CREATE)
        await site_rig.ask("member.add", events.add("r1", "dave"))
        assert site_rig.keys("dave") == site_rig.keys("alice")
        crashed = crash_at_call(monkeypatch, owner, name, after=after)
        removed = await site_rig.ask("member.remove", events.remove("r1", account="bob"))
    assert crashed == [name]
    assert removed["status"] == "ok"
    assert {version for version, _ in site_rig.keys("carol")} == {0, 1}
    assert set(site_rig.keys("alice")) == set(site_rig.keys("carol")) == set(site_rig.keys("dave"))
    assert [version for version, _ in site_rig.keys("bob")] == [0]
    room = await site_rig.room("r1")
    assert (room["encKey"]["ver"], room["encKey"]["priv"]) == site_rig.keys("carol")[-1]
    assert "staged" not in room["keyRotation"]
    left = site_rig.of("chat.user.bob.event.subscription.update")
    assert {body["action"] for body in left} == {"added", "removed"}
    async with site_rig.worker():
        await site_rig.ask("key.rotate", events.rotate("r1"))
    assert await site_rig.db.room_worker_outbox.count_documents({}) == 0


@pytest.mark.parametrize(("owner", "name"), STEPS, ids=[name for _, name in STEPS])
async def test_a_joiner_gets_the_current_key_although_the_worker_crashed(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    await site_rig.users("alice", "bob", "carol", "dave")
    async with site_rig.worker():
        await site_rig.ask("create", CREATE)
        crash_at_call(monkeypatch, owner, name, after=False)
        await site_rig.ask("member.add", events.add("r1", "dave"))
    assert set(site_rig.keys("dave")) == set(site_rig.keys("alice"))
    assert {version for version, _ in site_rig.keys("dave")} == {0}


async def test_an_outcome_that_was_decided_stays_although_the_world_has_changed(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown user turns up between the crash and the recovery: the event still failed."""
    await site_rig.users("alice", "bob", "carol")
    async with site_rig.worker():
        await site_rig.ask("create", CREATE)
        crash_at_call(monkeypatch, Publisher, "publish_notices", after=False)
        step = Loop.recover

        async def recover(self: Loop) -> None:
            if not await site_rig.db.users.count_documents({"account": "dave"}):
                await site_rig.users("dave")
            await step(self)

        monkeypatch.setattr(Loop, "recover", recover)
        added = await site_rig.ask("member.add", events.add("r1", "dave"))
    assert (added["code"], added["reason"]) == ("not_found", "user_not_found")
    assert "dave" not in await site_rig.members("r1")
    letters = site_rig.of(f"chat.room.deadletter.{site_rig.site}")
    assert len(letters) == 1, letters


async def test_an_event_that_fails_alone_for_an_unknown_cause_is_given_up_and_the_next_one_goes_on(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site_rig.users("alice", "bob", "carol")
    site_rig.limit(set_aside_pause_s=0.05)

    def stumble(events: Any, *args: Any, **kwargs: Any) -> Any:
        if any(event.room_id == "cursed" for event in events):
            raise Crash
        return decide(events, *args, **kwargs)

    monkeypatch.setattr("worker.pipeline.writer.decide", stumble)
    async with site_rig.worker(partitions=1):
        ids = [await site_rig.publish("create", {**CREATE, "roomId": room}) for room in ("r1", "cursed", "r2")]
        results = [await site_rig.result(request_id) for request_id in ids]
    assert [(item["status"], item.get("reason")) for item in results] == [
        ("ok", None),
        ("error", "internal"),
        ("ok", None),
    ]


async def test_an_unexpected_database_error_while_looking_around_does_not_end_the_replica(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site_rig.users("alice", "bob", "carol")
    look, failed = heartbeats.replicas, asyncio.Event()

    async def stumble(*args: Any, **kwargs: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise Refused("OperationFailure 134")
        return await look(*args, **kwargs)

    monkeypatch.setattr(heartbeats, "replicas", stumble)
    async with site_rig.worker():
        assert (await site_rig.ask("create", CREATE))["status"] == "ok"
    assert failed.is_set()
