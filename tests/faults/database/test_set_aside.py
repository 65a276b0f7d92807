"""Rooms that are set aside: a room that fails alone stops no other room, and loses no event."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from roomkeys import subjects
from roomkeys.errors import DatabaseError
from store.writes.apply import apply
from tests.harness import events
from tests.harness.gates import crash_after_step, watch_steps
from tests.harness.polling import until, until_answered
from tests.harness.site import Rig
from worker.pipeline.deliver import Publisher

PEOPLE = ("alice", "bob", "carol", "dave", "erin")
QUICK = 5.0
"""Seconds within which the rooms behind a failing one have their results; one that waits takes longer."""


@asynccontextmanager
async def refusing(made: Rig, collection: str, accepted: dict[str, Any]) -> AsyncIterator[None]:
    """Let the database refuse every write to a collection after which a document does not match `accepted`."""
    await made.db.command({"collMod": collection, "validator": accepted})
    try:
        yield
    finally:
        await made.db.command({"collMod": collection, "validator": {}})


async def rooms(made: Rig, *room_ids: str, members: tuple[str, ...] = ("bob", "carol")) -> None:
    """Create users and rooms."""
    await made.users(*PEOPLE)
    asked = [await made.publish("create", events.create(room_id, *members)) for room_id in room_ids]
    for request_id in asked:
        assert (await made.result(request_id))["status"] == "ok"


def dead_letters(made: Rig) -> list[dict[str, Any]]:
    return made.of(subjects.dead_letter_subject(made.site))


async def until_set_aside(made: Rig, count: int) -> None:
    """Wait until so many events wait."""

    async def are_waiting() -> bool:
        wait = {"_id": {"$regex": r"\.waiting\."}}
        return bool(await made.db.room_worker_outbox.count_documents(wait) == count)

    await until_answered(are_waiting)


async def test_rooms_behind_a_room_that_fails_alone_do_not_wait(site_rig: Rig) -> None:
    names = [f"L{number}" for number in range(20)]
    async with site_rig.worker(partitions=1):
        await rooms(site_rig, *names)
        async with refusing(site_rig, "rooms", {"_id": {"$ne": "L1"}}):
            asked = {name: await site_rig.publish("key.rotate", events.rotate(name)) for name in names}
            for name in names:
                if name != "L1":
                    assert (await site_rig.result(asked[name], QUICK))["status"] == "ok"
            assert asked["L1"] not in site_rig.results
        assert (await site_rig.result(asked["L1"]))["status"] == "ok"
        for name in names:
            assert (await site_rig.room(name))["encKey"]["ver"] == 1
    assert dead_letters(site_rig) == []


async def test_room_behind_five_events_of_a_room_that_fails_does_not_wait(site_rig: Rig) -> None:
    async with site_rig.worker(partitions=1):
        await rooms(site_rig, "L1", "L12")
        async with refusing(site_rig, "rooms", {"_id": {"$ne": "L1"}}):
            five = [await site_rig.publish("key.rotate", events.rotate("L1")) for _ in range(4)]
            five.append(await site_rig.publish("member.remove", events.remove("L1", account="bob")))
            other = await site_rig.publish("key.rotate", events.rotate("L12"))
            assert (await site_rig.result(other, QUICK))["status"] == "ok"
            later = await site_rig.publish("member.add", events.add("L1", "dave"))
            await until_set_aside(site_rig, 6)
        for request_id in (*five, later):
            assert (await site_rig.result(request_id))["status"] == "ok"
    assert list(site_rig.results)[-6:] == [*five, later], "the events of the room take effect in stream order"
    assert (await site_rig.room("L1"))["encKey"]["ver"] == 5
    assert set(await site_rig.members("L1")) == {"alice", "carol", "dave"}
    assert dead_letters(site_rig) == []


async def test_next_owner_applies_the_events_that_wait_before_later_ones(site_rig: Rig) -> None:
    async with site_rig.worker(partitions=1):
        await rooms(site_rig, "L1")
    async with refusing(site_rig, "rooms", {"_id": {"$ne": "L1"}}):
        async with site_rig.worker(partitions=1):
            asked = [
                await site_rig.publish("member.remove", events.remove("L1", account="bob")),
                await site_rig.publish("member.add", events.add("L1", "bob")),
            ]
            await until_set_aside(site_rig, 2)
        asked.append(await site_rig.publish("member.remove", events.remove("L1", account="bob")))
    async with site_rig.worker(partitions=1):
        for request_id in asked:
            assert (await site_rig.result(request_id))["status"] == "ok"
    assert set(await site_rig.members("L1")) == {"alice", "carol"}
    assert (await site_rig.room("L1"))["encKey"]["ver"] == 2


async def test_event_that_the_database_refuses_for_good_is_given_up_and_the_next_one_takes_effect(
    site_rig: Rig,
) -> None:
    site_rig.limit(set_aside_pause_s=0.05)
    async with site_rig.worker(partitions=1):
        await rooms(site_rig, "L1")
        with capture_logs() as lines:
            async with refusing(site_rig, "subscriptions", {"u.account": {"$ne": "dave"}}):
                refused = await site_rig.publish("member.add", events.add("L1", "dave"))
                taken = await site_rig.publish("member.add", events.add("L1", "erin"))
                assert (await site_rig.result(refused))["reason"] == "internal"
                assert (await site_rig.result(taken))["status"] == "ok"
    said = [(line["event"], line.get("attempt")) for line in lines if line.get("room") == "L1"]
    said.remove(("event became a dead letter", None))  # beside the loop, so at any moment after the last try
    assert said == [
        ("room is set aside because an event failed", None),
        *(("event failed", f"{number} of 6") for number in range(1, 7)),
        ("room is no longer set aside", None),
    ]
    assert {line["cause"] for line in lines if "attempt" in line} == {"BulkWriteError 121 DocumentValidationFailure"}, (
        "the server's code, and none of its text"
    )
    assert set(await site_rig.members("L1")) == {"alice", "bob", "carol", "erin"}
    assert len(dead_letters(site_rig)) == 1


async def test_event_costs_time_only_while_no_such_event_can_be_written(hindered: Rig) -> None:
    """A right that is missing for one collection fails every event that needs it, and its twin too."""
    hindered.limit(set_aside_pause_s=0.05)
    async with hindered.worker(partitions=1):
        await rooms(hindered, "L1", "L2")
        data = {
            "failCommands": ["insert"], "namespace": f"{hindered.db.name}.subscriptions", "errorCode": 13,
            "appName": "room-worker",
        }  # fmt: skip
        admin = hindered.db.client.admin
        await admin.command("configureFailPoint", "failCommand", mode={"times": 20}, data=data)
        asked = [await hindered.publish("member.add", events.add(room_id, "dave")) for room_id in ("L1", "L2")]
        for request_id in asked:
            assert (await hindered.result(request_id, 60))["status"] == "ok"
        assert (await admin.command("configureFailPoint", "failCommand", mode="off"))["count"] >= 20
    assert dead_letters(hindered) == []


async def test_room_that_another_program_holds_is_named_and_holds_up_no_other_room(site_rig: Rig) -> None:
    async with site_rig.worker(partitions=1):
        await rooms(site_rig, "L1", "L2")
        client = site_rig.db.client
        with capture_logs() as lines:
            async with client.start_session() as session, await session.start_transaction():
                await site_rig.db.rooms.update_one({"_id": "L1"}, {"$set": {"lastMsgId": "m1"}}, session=session)
                held = await site_rig.publish("key.rotate", events.rotate("L1"))
                for _ in range(20):
                    await site_rig.publish("key.rotate", events.rotate("L1"))
                other = await site_rig.publish("key.rotate", events.rotate("L2"))
                assert (await site_rig.result(other, 2 * QUICK))["status"] == "ok"
                assert held not in site_rig.results
            assert (await site_rig.result(held))["status"] == "ok"
    assert dead_letters(site_rig) == []
    (named,) = [line for line in lines if line["event"].startswith("room is set aside")]
    assert named["room"] == "L1"
    assert named["cause"] == "OperationFailure 112 WriteConflict"


async def test_partition_waits_once_too_many_events_of_set_aside_rooms_wait(site_rig: Rig) -> None:
    site_rig.limit(set_aside_events=3, set_aside_pause_s=0.2)
    async with site_rig.worker(partitions=1):
        await rooms(site_rig, "L1", "L2")
        with capture_logs() as lines:
            async with refusing(site_rig, "rooms", {"_id": {"$ne": "L1"}}):
                asked = [await site_rig.publish("key.rotate", events.rotate("L1")) for _ in range(5)]
                other = await site_rig.publish("key.rotate", events.rotate("L2"))
                await until_set_aside(site_rig, 3)
                waits = "too many events of set-aside rooms wait"
                await until(lambda: any(line.get("cause") == waits for line in lines))
                assert other not in site_rig.results
            for request_id in (*asked, other):
                assert (await site_rig.result(request_id))["status"] == "ok"
    assert (await site_rig.room("L1"))["encKey"]["ver"] == 5


async def test_large_event_behind_a_failed_one_is_applied_in_slices_when_its_turn_comes(site_rig: Rig) -> None:
    site_rig.limit(batch_accounts=2)
    async with site_rig.worker(partitions=1):
        await rooms(site_rig, "L1", members=("bob",))
        async with refusing(site_rig, "rooms", {"_id": {"$ne": "L1"}}):
            asked = [
                await site_rig.publish("key.rotate", events.rotate("L1")),
                await site_rig.publish("member.add", events.add("L1", "carol", "dave", "erin")),
                await site_rig.publish("member.remove", events.remove("L1", accounts=["dave", "erin", "bob"])),
            ]
            await until_set_aside(site_rig, 3)
        for request_id in asked:
            assert (await site_rig.result(request_id))["status"] == "ok"
    assert set(await site_rig.members("L1")) == {"alice", "carol"}
    assert (await site_rig.room("L1"))["encKey"]["ver"] == 2


async def test_takeover_between_the_slices_of_an_event_that_waited_applies_it_once(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_rig.limit(batch_accounts=2)
    async with site_rig.worker(partitions=1):
        await rooms(site_rig, "L1", "L2", members=("bob",))
        async with refusing(site_rig, "rooms", {"_id": {"$ne": "L1"}}):
            large = await site_rig.publish("member.add", events.add("L1", "carol", "dave", "erin"))
            await until_set_aside(site_rig, 1)
            other = await site_rig.publish("key.rotate", events.rotate("L2"))
            await site_rig.result(other)
            steps = crash_after_step(monkeypatch, "apply")
        assert (await site_rig.result(large))["status"] == "ok"
        assert (await site_rig.ask("key.rotate", events.rotate("L1")))["status"] == "ok"
    assert steps, "the worker has crashed after a slice"
    assert set(await site_rig.members("L1")) == {"alice", *PEOPLE}
    assert (await site_rig.room("L1"))["userCount"] == len(PEOPLE)


async def test_event_whose_commit_is_never_answered_holds_up_no_other_room(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doubtful(*args: Any, **kwargs: Any) -> Any:
        if armed and any(change.room.id == "L1" for change in kwargs["changes"]):
            raise DatabaseError("AutoReconnect")
        return apply(*args, **kwargs)

    armed = ["armed"]
    async with site_rig.worker(partitions=1):
        await rooms(site_rig, "L1", "L2")
        monkeypatch.setattr("worker.pipeline.writer.apply", doubtful)
        doubted = await site_rig.publish("key.rotate", events.rotate("L1"))
        other = await site_rig.publish("key.rotate", events.rotate("L2"))
        assert (await site_rig.result(other, 2 * QUICK))["status"] == "ok"
        armed.clear()
        assert (await site_rig.result(doubted))["status"] == "ok"
    assert dead_letters(site_rig) == []


async def test_room_whose_key_cannot_settle_holds_up_no_other_room(site_rig: Rig) -> None:
    async with site_rig.worker(partitions=1):
        await rooms(site_rig, "L1", "L2", "L3")
        in_use = {"$or": [{"_id": {"$ne": "L1"}}, {"encKey.ver": 0}]}
        async with refusing(site_rig, "rooms", in_use):
            asked = {name: await site_rig.publish("key.rotate", events.rotate(name)) for name in ("L1", "L2", "L3")}
            added = await site_rig.publish("member.add", events.add("L1", "dave"))
            removed = await site_rig.publish("member.remove", events.remove("L1", account="bob"))
            for name in ("L2", "L3"):
                assert (await site_rig.result(asked[name], QUICK))["status"] == "ok"
            await site_rig.until(lambda: [version for version, _ in site_rig.keys("dave", "L1")] == [0, 1])
            assert {asked["L1"], added, removed}.isdisjoint(site_rig.results)
        for request_id in (asked["L1"], added, removed):
            assert (await site_rig.result(request_id))["status"] == "ok"
    assert (await site_rig.room("L1"))["encKey"]["ver"] == 2
    assert [version for version, _ in site_rig.keys("bob", "L1")] == [0, 1]
    assert dead_letters(site_rig) == []


async def test_takeover_of_a_room_whose_key_cannot_settle_holds_up_no_other_room(site_rig: Rig) -> None:
    async with site_rig.worker(partitions=1):
        await rooms(site_rig, "L1", "L2")
    async with refusing(site_rig, "rooms", {"$or": [{"_id": {"$ne": "L1"}}, {"encKey.ver": 0}]}):
        async with site_rig.worker(partitions=1):
            asked = await site_rig.publish("key.rotate", events.rotate("L1"))
            await site_rig.until(lambda: 1 in {version for version, _ in site_rig.keys("bob", "L1")})
        async with site_rig.worker(partitions=1):
            assert (await site_rig.ask("key.rotate", events.rotate("L2")))["status"] == "ok"
            assert asked not in site_rig.results
    async with site_rig.worker(partitions=1):
        assert (await site_rig.result(asked))["status"] == "ok"


async def test_room_that_another_program_holds_when_its_key_settles_holds_up_no_other_room(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site_rig.worker(partitions=1):
        await rooms(site_rig, "L1", "L2")
        client = site_rig.db.client
        async with client.start_session() as session, await session.start_transaction():
            watch_steps(monkeypatch, lambda left: reached.set() if left == "apply" else None)
            reached = asyncio.Event()
            deliver = Publisher.publish_notices

            async def hold(self: Publisher, *args: Any) -> None:
                if reached.is_set() and not held:
                    held.append("L1")
                    await site_rig.db.rooms.update_one({"_id": "L1"}, {"$set": {"lastMsgId": "m"}}, session=session)
                await deliver(self, *args)

            held: list[str] = []
            monkeypatch.setattr(Publisher, "publish_notices", hold)
            asked = await site_rig.publish("key.rotate", events.rotate("L1"))
            await site_rig.until(lambda: 1 in {version for version, _ in site_rig.keys("bob", "L1")})
            other = await site_rig.publish("key.rotate", events.rotate("L2"))
            assert (await site_rig.result(other, 2 * QUICK))["status"] == "ok"
            assert asked not in site_rig.results
        assert (await site_rig.result(asked))["status"] == "ok"


async def test_event_that_is_too_large_to_wait_is_given_up_in_its_place(site_rig: Rig) -> None:
    site_rig.limit(set_aside_bytes=10, set_aside_pause_s=0.02)
    async with site_rig.worker(partitions=1):
        await rooms(site_rig, "L1", "L2")
        async with refusing(site_rig, "rooms", {"_id": {"$ne": "L1"}}):
            refused = await site_rig.publish("key.rotate", events.rotate("L1"))
            behind = await site_rig.publish("key.rotate", events.rotate("L2"))
            assert (await site_rig.result(refused))["reason"] == "internal"
            assert (await site_rig.result(behind))["status"] == "ok"
    assert len(dead_letters(site_rig)) == 1


async def test_only_the_event_that_fails_is_given_up_of_those_that_wait(site_rig: Rig) -> None:
    site_rig.limit(set_aside_pause_s=0.5, tries_before_dead_letter=3)
    async with site_rig.worker(partitions=1):
        await rooms(site_rig, "L1")
        async with refusing(site_rig, "subscriptions", {"u.account": {"$ne": "dave"}}):
            await site_rig.db.command({"collMod": "rooms", "validator": {"_id": {"$ne": "L1"}}})
            first = await site_rig.publish("key.rotate", events.rotate("L1"))
            refused = await site_rig.publish("member.add", events.add("L1", "dave"))
            last = await site_rig.publish("member.add", events.add("L1", "erin"))
            await until_set_aside(site_rig, 3)
            await site_rig.db.command({"collMod": "rooms", "validator": {}})
            assert (await site_rig.result(first))["status"] == "ok"
            assert (await site_rig.result(refused))["reason"] == "internal"
            assert (await site_rig.result(last))["status"] == "ok"
    assert set(await site_rig.members("L1")) == {"alice", "bob", "carol", "erin"}
    assert len(dead_letters(site_rig)) == 1


async def test_many_events_of_a_set_aside_room_begin_to_wait_in_few_transactions(site_rig: Rig) -> None:
    async with site_rig.worker(partitions=1):
        await rooms(site_rig, "L1", "L2")
        async with refusing(site_rig, "rooms", {"_id": {"$ne": "L1"}}):
            many = [await site_rig.publish("key.rotate", events.rotate("L1")) for _ in range(200)]
            behind = await site_rig.publish("key.rotate", events.rotate("L2"))
            assert (await site_rig.result(behind, QUICK))["status"] == "ok"
            writes = (await site_rig.db.room_worker_cursors.find_one({}))["writes"]
        for request_id in many:
            assert (await site_rig.result(request_id))["status"] == "ok"
    assert writes < 100, "one transaction for many events"
    assert (await site_rig.room("L1"))["encKey"]["ver"] == 200
