"""Mishaps beside big rooms and slices: documents, streams and keys that others touch, wakes at a bad moment."""

import asyncio
from itertools import count
from typing import Any

import pytest

from roomkeys.decisions.decision import OutboxEntry, Outcome
from roomkeys.errors import Unexpected
from roomkeys.subjects import Operation, events_stream, events_subjects
from store.reads.slices import reasons_to_clear
from store.writes.outbox import StoredEntry
from store.writes.settle import settle
from tests.harness.gates import PageGate, stop_after_step
from tests.harness.site import Rig
from worker.pipeline.large_rooms import LargeRooms
from worker.pipeline.pending_results import PendingResults

MEMBERS = [f"m{number}" for number in range(8)]


def room(room_id: str, *users: str, **fields: Any) -> dict[str, Any]:
    return {"roomId": room_id, "name": room_id, "users": list(users), "requesterAccount": "alice", **fields}


def rotate(room_id: str) -> dict[str, Any]:
    return {"roomId": room_id, "requester": "alice"}


@pytest.fixture
def small_limits(site_rig: Rig) -> None:
    site_rig.limit(large_room_members=4, page_accounts=3, window_accounts=2)


async def test_a_rejected_removal_of_an_org_clears_no_rows(site_rig: Rig) -> None:
    """The org has nobody, so the rows are cleared before anybody looks whether the requester exists."""
    site_rig.limit(batch_accounts=5)
    await site_rig.users("alice", *MEMBERS)
    async with site_rig.worker(partitions=1):
        await site_rig.ask("create", room("r1", *MEMBERS))
        await site_rig.ask("member.add", {"roomId": "r1", "orgs": ["ghosts"], "requesterAccount": "alice"})
        before = await site_rig.db.room_members.count_documents({"rid": "r1"})
        assert before == 2 + len(MEMBERS)
        answer = await site_rig.ask("member.remove", {"roomId": "r1", "requester": "zoe", "orgId": "ghosts"})
        assert answer["reason"] == "user_not_found"
        assert await site_rig.db.room_members.count_documents({"rid": "r1"}) == before


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("who", [{}, {"account": None}])
async def test_a_membership_without_an_account_ends_no_pass(site_rig: Rig, who: dict[str, Any]) -> None:
    async with site_rig.worker(partitions=1):
        await site_rig.users("alice", *MEMBERS)
        await site_rig.ask("create", room("big", *MEMBERS))
        await site_rig.db.subscriptions.insert_one({"_id": "x", "roomId": "big", "u": who})
        assert (await site_rig.ask("key.rotate", rotate("big")))["status"] == "ok"
        assert [account for account in ("alice", *MEMBERS) if 1 not in dict(site_rig.keys(account))] == []


async def test_a_membership_without_an_account_ends_no_page_of_small_rooms(
    site_rig: Rig,
) -> None:
    site_rig.limit(page_accounts=3)
    async with site_rig.worker(partitions=1):
        await site_rig.users("alice", *MEMBERS)
        await site_rig.ask("create", room("r1", *MEMBERS))
        await site_rig.db.subscriptions.insert_one({"_id": "x", "roomId": "r1", "u": {}})
        assert (await site_rig.ask("key.rotate", rotate("r1")))["status"] == "ok"
        assert [account for account in ("alice", *MEMBERS) if 1 not in dict(site_rig.keys(account))] == []


@pytest.mark.usefixtures("small_limits")
async def test_a_pass_that_ends_while_another_room_settles_is_noticed_at_once(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_rig.limit(follow_s=1000.0, tidy_s=1000.0)
    async with site_rig.worker(partitions=1):
        await site_rig.users("alice", *MEMBERS)
        await site_rig.ask("create", room("one", *MEMBERS))
        await site_rig.ask("create", room("two", *MEMBERS))
        gates = {name: PageGate(monkeypatch, name) for name in ("one", "two")}
        second_over, passing = asyncio.Event(), LargeRooms._roll_out

        async def watched(self: LargeRooms, room_id: str, *args: Any) -> None:
            await passing(self, room_id, *args)
            if room_id == "two":
                second_over.set()

        async def slow(*args: Any, **kwargs: Any) -> None:
            """Settle the first room and, before that is known, let the pass of the second one end."""
            await settle(*args, **kwargs)
            gates["two"].released.set()
            await asyncio.wait_for(second_over.wait(), 30)

        monkeypatch.setattr(LargeRooms, "_roll_out", watched)
        asked = [await site_rig.publish("key.rotate", rotate(name)) for name in ("one", "two")]
        for gate in gates.values():
            await gate.until_reached()
        monkeypatch.setattr("worker.pipeline.writer.settle", slow)
        gates["one"].released.set()
        assert (await site_rig.result(asked[0]))["status"] == "ok"
        assert (await site_rig.result(asked[1], 20))["status"] == "ok"


@pytest.mark.usefixtures("small_limits")
async def test_a_stream_made_anew_under_a_pass_gives_nobody_up(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site_rig.worker(partitions=1):
        await site_rig.users("alice", *MEMBERS)
        await site_rig.ask("create", room("big", *MEMBERS))
        gate = PageGate(monkeypatch, "big")
        asked = await site_rig.publish("key.rotate", rotate("big"))  # sequence 2
        await gate.until_reached()
        gate.reached.clear()
        jetstream = site_rig.nc.jetstream()
        await jetstream.delete_stream(events_stream(site_rig.site))
        await jetstream.add_stream(name=events_stream(site_rig.site), subjects=[events_subjects(site_rig.site)])
        await gate.until_reached()  # the lease is taken again: the pass starts over
        assert (await site_rig.ask("create", room("r1", "m1")))["status"] == "ok"  # sequence 1
        second = await site_rig.publish("create", room("r2", "m1"))  # sequence 2, as the entry that is held
        try:
            assert (await site_rig.result(second, 20))["status"] == "ok"
        finally:
            gate.released.set()
        assert (await site_rig.result(asked))["status"] == "ok"


@pytest.mark.usefixtures("small_limits")
async def test_a_key_that_somebody_else_put_in_use_during_a_pass_does_not_go_down(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site_rig.worker(partitions=1):
        await site_rig.users("alice", *MEMBERS)
        await site_rig.ask("create", room("big", *MEMBERS))
        gate = PageGate(monkeypatch, "big")
        asked = [await site_rig.publish("key.rotate", rotate("big"))]
        await gate.until_reached()
        await site_rig.db.rooms.update_one({"_id": "big"}, {"$set": {"encKey": {"priv": b"f" * 32, "ver": 50}}})
        asked.append(await site_rig.publish("key.rotate", rotate("big")))
        asked.append(await site_rig.publish("create", room("small", "m1")))
        assert (await site_rig.result(asked[2]))["status"] == "ok"
        gate.released.set()
        for one in asked:
            assert (await site_rig.result(one))["status"] == "ok"
        assert (await site_rig.room("big"))["encKey"]["ver"] > 50


@pytest.mark.usefixtures("small_limits")
async def test_a_key_that_somebody_else_put_in_use_during_a_pass_is_followed_by_a_higher_one(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, but no event of the room comes after it."""
    async with site_rig.worker(partitions=1):
        await site_rig.users("alice", *MEMBERS)
        await site_rig.ask("create", room("big", *MEMBERS))
        gate = PageGate(monkeypatch, "big")
        asked = await site_rig.publish("key.rotate", rotate("big"))
        await gate.until_reached()
        await site_rig.db.rooms.update_one({"_id": "big"}, {"$set": {"encKey": {"priv": b"f" * 32, "ver": 50}}})
        gate.released.set()
        assert (await site_rig.result(asked))["status"] == "ok"
        assert (await site_rig.ask("key.rotate", rotate("big")))["status"] == "ok"
        assert (await site_rig.room("big"))["encKey"]["ver"] > 50


@pytest.mark.usefixtures("small_limits")
async def test_a_room_made_anew_under_a_pass_uses_no_key_that_nobody_was_sent(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site_rig.worker(partitions=1):
        await site_rig.users("alice", *MEMBERS)
        await site_rig.ask("create", room("big", *MEMBERS))
        gate = PageGate(monkeypatch, "big")
        await site_rig.publish("key.rotate", rotate("big"))
        await gate.until_reached()
        await site_rig.db.rooms.delete_one({"_id": "big"})
        await site_rig.db.subscriptions.delete_many({"roomId": "big"})
        again = await site_rig.publish("create", room("big", *MEMBERS))
        await site_rig.until(lambda: len(site_rig.of("chat.user.m7.event.subscription.update")) == 2, "the notice")
        gate.released.set()
        async with asyncio.timeout(20), await site_rig.db.rooms.watch() as changes:
            while "encKey" not in await site_rig.room("big"):
                await changes.next()
        await holds_what_is_in_use(site_rig)
        assert (await site_rig.result(again))["status"] == "ok"
        await holds_what_is_in_use(site_rig)


async def holds_what_is_in_use(made: Rig) -> None:
    found = await made.room("big")
    in_use = (found["encKey"]["ver"], found["encKey"]["priv"])
    assert [account for account in ("alice", *MEMBERS) if in_use not in made.keys(account)] == []


@pytest.mark.usefixtures("small_limits")
async def test_recovery_settles_no_room_between_slices(site_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The room was big when its pass began; the first slice makes it small, and a takeover comes after it."""
    site_rig.limit(batch_accounts=5)
    settled_in_part: list[Any] = []

    async def looking(database: Any, lease: Any, records: Any, *args: Any, **kwargs: Any) -> None:
        cursor = await site_rig.db.room_worker_cursors.find_one({})
        if records and cursor["slice"] is not None:
            settled_in_part.append(cursor["slice"])
        await settle(database, lease, records, *args, **kwargs)

    async with site_rig.worker(partitions=1) as stop:
        await site_rig.users("alice", *MEMBERS)
        await site_rig.ask("create", room("big", *MEMBERS))
        gate = PageGate(monkeypatch, "big")
        asked = [await site_rig.publish("key.rotate", rotate("big"))]
        await gate.until_reached()
        stop_after_step(monkeypatch, "apply", stop)
        asked.append(
            await site_rig.publish("member.remove", {"roomId": "big", "requester": "alice", "accounts": MEMBERS})
        )
        await site_rig.until(stop.is_set, "the first slice")
    monkeypatch.undo()
    monkeypatch.setattr("worker.pipeline.writer.settle", looking)
    gate.released.set()
    assert (await site_rig.db.room_worker_cursors.find_one({}))["slice"] is not None
    async with site_rig.worker(partitions=1):
        for one in asked:
            assert (await site_rig.result(one))["status"] == "ok"
    assert settled_in_part == []


async def test_an_event_whose_rows_cannot_be_read_is_given_up_between_slices(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_rig.limit(batch_accounts=5)
    site_rig.limit(dead_letter_s=0.1)
    reads = count()

    async def broken(*args: Any) -> list[str]:
        if next(reads):
            raise Unexpected("OperationFailure 2")
        return await reasons_to_clear(*args)

    async with site_rig.worker(partitions=1):
        await site_rig.users("alice", *MEMBERS)
        await site_rig.ask("create", room("r1", "m0", "m1"))
        monkeypatch.setattr("worker.pipeline.writer.reasons_to_clear", broken)
        asked = await site_rig.publish(
            "member.add", {"roomId": "r1", "requesterAccount": "alice", "users": MEMBERS}
        )
        assert (await site_rig.result(asked, 20))["code"] == "internal"


def test_results_that_wait_are_counted_not_the_entries_that_hold_them() -> None:
    """A batch of 256 events of one room is one entry."""
    outcome = Outcome(1, Operation.ROTATE, 0, "big", "alice", "x")
    debts = PendingResults(20_000)
    debts.defer(
        (StoredEntry(str(at), OutboxEntry("big", (outcome,) * 256, high=1)) for at in range(200)),
        {"big"},
    )
    assert debts.is_full
