"""Events with many memberships are applied in slices, and finished whatever happens between two of them."""

from typing import Any

import pytest

from roomkeys.subjects import events_stream
from tests.harness.gates import crash_after_step, stop_after_step
from tests.harness.site import Rig

CREW = [f"c{number:02d}" for number in range(12)]
GUESTS = [f"g{number:02d}" for number in range(6)]


@pytest.fixture(autouse=True)
def small_slices(site_rig: Rig) -> None:
    site_rig.limit(batch_accounts=5)


async def people(made: Rig) -> None:
    await made.users("alice", *GUESTS)
    await made.users(*CREW, sectId="crew")


def create(*users: str) -> dict[str, Any]:
    return {"roomId": "r1", "name": "general", "users": list(users), "requesterAccount": "alice"}


def add(**fields: Any) -> dict[str, Any]:
    return {"roomId": "r1", "requesterAccount": "alice", **fields}


def remove(**fields: Any) -> dict[str, Any]:
    return {"roomId": "r1", "requester": "alice", **fields}


async def is_consistent(made: Rig, version: int, *members: str) -> None:
    """Check the room's members, counts and key, that all of them hold it, and that nothing is left over."""
    room = await made.room("r1")
    assert set(await made.members("r1")) == set(members)
    assert (room["userCount"], room["encKey"]["ver"], room["keyRotation"]["high"]) == (
        len(members),
        version,
        version,
    )
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
            ("create", create(*GUESTS), 0, ["alice", *GUESTS], set()),
            ("member.add", add(orgs=["crew"]), 0, ["alice", *GUESTS, *CREW], {"crew", "u-alice"}),
            ("member.remove", remove(accounts=[*GUESTS, CREW[0]]), 1, ["alice", *CREW], {"crew", "u-alice"}),
            ("member.remove", remove(orgId="crew"), 2, ["alice"], set()),
            ("member.add", add(users=CREW), 2, ["alice", *CREW], set()),
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
        await site_rig.ask("create", create("g00"))
        answer = await site_rig.ask("member.add", add(users=[*CREW, "zoe"]))
        assert (answer["code"], answer["reason"]) == ("not_found", "user_not_found")
        await is_consistent(site_rig, 0, "alice", "g00")


async def test_an_event_that_the_stream_has_lost_meanwhile_is_finished(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await people(site_rig)
    async with site_rig.worker(partitions=1) as stop:
        await site_rig.ask("create", create(*GUESTS, *CREW))
        stop_after_step(monkeypatch, "apply", stop)
        request_id = await site_rig.publish("member.remove", remove(accounts=[*GUESTS, *CREW]))
        await site_rig.until(stop.is_set, "the first slice")
    monkeypatch.undo()
    assert 1 < len(await site_rig.members("r1")) < 1 + len(GUESTS) + len(CREW), "applied in part"
    await site_rig.nc.jetstream().purge_stream(events_stream(site_rig.site))
    async with site_rig.worker(partitions=1):
        assert (await site_rig.result(request_id))["status"] == "ok"
        await is_consistent(site_rig, 1, "alice")
        assert (await site_rig.ask("member.add", add(users=["g01"])))["status"] == "ok"
    assert {version for version, _ in site_rig.keys("g00")} == {0}


async def test_the_rows_of_a_room_go_in_slices_with_its_last_org(site_rig: Rig) -> None:
    """Few people leave, but everybody who stays has a row."""
    await people(site_rig)
    await site_rig.users("owl", sectId="owls")
    async with site_rig.worker(partitions=1):
        await site_rig.ask("create", create(*GUESTS, *CREW))
        await site_rig.ask("member.add", add(orgs=["owls"]))
        assert len(await rows(site_rig)) == 1 + 1 + len(GUESTS) + len(CREW)
        assert (await site_rig.ask("member.remove", remove(orgId="owls")))["status"] == "ok"
        await is_consistent(site_rig, 1, "alice", *GUESTS, *CREW)
    assert await rows(site_rig) == set()
