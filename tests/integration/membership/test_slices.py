"""Events with many memberships are applied in slices, and finished whatever happens between two of them."""

from itertools import count
from typing import Any

import pytest

from roomkeys.errors import Refused
from roomkeys.subjects import events_stream
from store.reads.slices import reasons_to_clear
from store.writes.settle import settle
from tests.harness import events
from tests.harness.gates import PageGate, crash_after_step, stop_after_step
from tests.harness.site import Rig

CREW = [f"c{number:02d}" for number in range(12)]
GUESTS = [f"g{number:02d}" for number in range(6)]


@pytest.fixture(autouse=True)
def small_slices(site_rig: Rig) -> None:
    site_rig.limit(batch_accounts=5)


async def people(made: Rig) -> None:
    await made.users("alice", *GUESTS)
    await made.users(*CREW, sectId="crew")


async def is_consistent(made: Rig, version: int, *members: str) -> None:
    """Check the room's members, counts and key, that all of them hold it, and that nothing is left over."""
    room = await made.room("r1")
    assert set(await made.members("r1")) == set(members)
    assert (room["userCount"], room["encKey"]["ver"], room["keyRotation"]["high"]) == (len(members), version, version)
    for account in members:
        assert (version, room["encKey"]["priv"]) in made.keys(account), account
    (cursor,) = await made.db.room_worker_cursors.find().to_list(None)
    assert cursor["slice"] is None


async def rows(made: Rig) -> set[str]:
    return {row["member"]["id"] for row in await made.db.room_members.find({"rid": "r1"}).to_list(None)}


def updates(made: Rig, account: str) -> list[str]:
    """Return the distinct notices that an account was sent of its memberships."""
    bodies = [str(body) for body in made.of(f"chat.user.{account}.event.subscription.update")]
    return list(dict.fromkeys(bodies))


@pytest.mark.parametrize("at", [0, 1, 2, 3, 4, 5, 6, 7, 8])
async def test_a_life_in_slices_comes_to_the_same_wherever_it_is_interrupted(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """The `at`-th apply or deliver of each event is followed by a crash; 0: by none."""
    await people(site_rig)
    async with site_rig.worker(partitions=1):
        life: list[tuple[str, dict[str, Any], int, list[str], set[str]]] = [
            ("create", events.create("r1", *GUESTS), 0, ["alice", *GUESTS], set()),
            ("member.add", events.add("r1", orgs=["crew"]), 0, ["alice", *GUESTS, *CREW], {"crew", "u-alice"}),
            (
                "member.remove",
                events.remove("r1", accounts=[*GUESTS, CREW[0]]),
                1,
                ["alice", *CREW],
                {"crew", "u-alice"},
            ),
            ("member.remove", events.remove("r1", orgId="crew"), 2, ["alice"], set()),
            ("member.add", events.add("r1", *CREW), 2, ["alice", *CREW], set()),
        ]
        for suffix, body, version, members, in_rows in life:
            steps = crash_after_step(monkeypatch, "apply", "deliver", at=at)
            result = await site_rig.ask(suffix, body)
            monkeypatch.undo()
            assert (result["status"], len(steps) > 3) == ("ok", True), f"{suffix}: {steps}"
            await is_consistent(site_rig, version, *members)
            assert in_rows <= await rows(site_rig)
            assert bool(in_rows) == bool(await rows(site_rig))
    assert [len(updates(site_rig, account)) for account in ("alice", *CREW)] == [1] + [3] * len(CREW)
    assert {version for version, _ in site_rig.keys(GUESTS[0])} == {0}
    assert await site_rig.db.room_worker_outbox.count_documents({}) == 0


async def test_one_unknown_account_in_the_last_slice_fails_the_whole_event(site_rig: Rig) -> None:
    await people(site_rig)
    async with site_rig.worker(partitions=1):
        await site_rig.ask("create", events.create("r1", "g00"))
        answer = await site_rig.ask("member.add", events.add("r1", *CREW, "zoe"))
        assert (answer["code"], answer["reason"]) == ("not_found", "user_not_found")
        await is_consistent(site_rig, 0, "alice", "g00")


async def test_an_event_that_the_stream_has_lost_meanwhile_is_finished(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await people(site_rig)
    async with site_rig.worker(partitions=1) as stop:
        await site_rig.ask("create", events.create("r1", *GUESTS, *CREW))
        stop_after_step(monkeypatch, "apply", stop)
        request_id = await site_rig.publish("member.remove", events.remove("r1", accounts=[*GUESTS, *CREW]))
        await site_rig.until(stop.is_set, "the first slice")
    monkeypatch.undo()
    assert 1 < len(await site_rig.members("r1")) < 1 + len(GUESTS) + len(CREW), "applied in part"
    await site_rig.nc.jetstream().purge_stream(events_stream(site_rig.site))
    async with site_rig.worker(partitions=1):
        assert (await site_rig.result(request_id))["status"] == "ok"
        await is_consistent(site_rig, 1, "alice")
        assert (await site_rig.ask("member.add", events.add("r1", "g01")))["status"] == "ok"
    assert {version for version, _ in site_rig.keys("g00")} == {0}


async def test_the_rows_of_a_room_go_in_slices_with_its_last_org(site_rig: Rig) -> None:
    """Few people leave, but everybody who stays has a row."""
    await people(site_rig)
    await site_rig.users("owl", sectId="owls")
    async with site_rig.worker(partitions=1):
        await site_rig.ask("create", events.create("r1", *GUESTS, *CREW))
        await site_rig.ask("member.add", events.add("r1", orgs=["owls"]))
        assert len(await rows(site_rig)) == 1 + 1 + len(GUESTS) + len(CREW)
        assert (await site_rig.ask("member.remove", events.remove("r1", orgId="owls")))["status"] == "ok"
        await is_consistent(site_rig, 1, "alice", *GUESTS, *CREW)
    assert await rows(site_rig) == set()


async def test_rejected_removal_of_an_org_clears_no_rows(site_rig: Rig) -> None:
    """The org has no accounts, so the slices that clear rows come before the check of the requester."""
    await site_rig.users("alice", *CREW)
    async with site_rig.worker(partitions=1):
        await site_rig.ask("create", events.create("r1", *CREW))
        await site_rig.ask("member.add", events.add("r1", orgs=["ghosts"]))
        before = await site_rig.db.room_members.count_documents({"rid": "r1"})
        assert before == 2 + len(CREW)
        answer = await site_rig.ask("member.remove", events.remove("r1", requester="zoe", orgId="ghosts"))
        assert answer["reason"] == "user_not_found"
        assert await site_rig.db.room_members.count_documents({"rid": "r1"}) == before


async def test_recovery_settles_no_room_between_slices(site_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The room is large when its pass begins; the first slice makes it small, and a takeover follows."""
    site_rig.limit(large_room_members=4, page_accounts=3, window_accounts=2)
    members = CREW[:8]
    settled_in_part: list[Any] = []

    async def looking(database: Any, lease: Any, records: Any, *args: Any, **kwargs: Any) -> None:
        cursor = await site_rig.db.room_worker_cursors.find_one({})
        if records and cursor["slice"] is not None:
            settled_in_part.append(cursor["slice"])
        await settle(database, lease, records, *args, **kwargs)

    async with site_rig.worker(partitions=1) as stop:
        await site_rig.users("alice", *members)
        await site_rig.ask("create", events.create("big", *members))
        gate = PageGate(monkeypatch, "big")
        asked = [await site_rig.publish("key.rotate", events.rotate("big"))]
        await gate.until_reached()
        stop_after_step(monkeypatch, "apply", stop)
        asked.append(await site_rig.publish("member.remove", events.remove("big", accounts=members)))
        await site_rig.until(stop.is_set, "the first slice")
    monkeypatch.undo()
    monkeypatch.setattr("worker.pipeline.writer.settle", looking)
    gate.released.set()
    assert (await site_rig.db.room_worker_cursors.find_one({}))["slice"] is not None
    async with site_rig.worker(partitions=1):
        for one in asked:
            assert (await site_rig.result(one))["status"] == "ok"
    assert settled_in_part == []


async def test_event_whose_rows_cannot_be_read_fails_between_slices(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_rig.limit(set_aside_pause_s=0.05)
    reads = count()

    async def broken(*args: Any) -> list[str]:
        if next(reads):
            raise Refused("OperationFailure 2")
        return await reasons_to_clear(*args)

    async with site_rig.worker(partitions=1):
        await site_rig.users("alice", *CREW)
        await site_rig.ask("create", events.create("r1", *CREW[:2]))
        monkeypatch.setattr("worker.pipeline.writer.reasons_to_clear", broken)
        asked = await site_rig.publish("member.add", events.add("r1", *CREW))
        assert (await site_rig.result(asked, 20))["code"] == "internal"
