"""`room-worker status`: lag is what is pending, owners are named as the cursors name them, and a stand has a cause."""

import signal
from typing import Any

from roomkeys import subjects
from roomkeys.events.position import partition_of
from tests.faults.takeover.test_replicas import CREATE, owners, shared, until_owners
from tests.harness import events
from tests.harness.polling import until_answered
from tests.harness.processes import child, run, variables
from tests.harness.site import Rig, rig
from worker.cli.status import pending
from worker.limits import Limits
from worker.local.servers import MongoServer

ROTATE = events.rotate("r1")


async def status(made: Rig) -> dict[str, Any]:
    report: dict[str, Any] = (await run("status", "--json", env=variables(made))).json()
    return report


async def shown(made: Rig) -> str:
    return (await run("status", env=variables(made))).out


def behind(report: dict[str, Any]) -> dict[int, int]:
    """Return the lag of the partitions that have one."""
    return {row["partition"]: row["behind"] for row in report["cursors"] if row["behind"] != 0}


async def test_quiet_site_is_behind_nothing_although_cursors_differ(site_rig: Rig) -> None:
    """The cursor of an idle partition is at its last event; others have had later ones."""
    site_rig.limit(follow_s=600.0)
    await site_rig.users("alice", "bob", "carol")
    async with site_rig.worker():
        for number in range(8):
            await site_rig.ask("create", {**CREATE, "roomId": f"r{number}"})
        await site_rig.nc.jetstream().publish(subjects.event_subject(site_rig.site, "r1.rename"), b"{}")
        report = await status(site_rig)
        assert len({row["applied"] for row in report["cursors"]}) > 1
        assert (behind(report), report["oldestSeconds"], report["behindIsExact"]) == ({}, 0, True)
        assert "behind        0 events" in await shown(site_rig)


async def test_events_count_for_their_own_partition_only(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob", "carol")
    async with site_rig.worker():
        await site_rig.ask("create", CREATE)
    for _ in range(3):
        await site_rig.publish("key.rotate", ROTATE)
    report = await status(site_rig)
    assert behind(report) == {partition_of("r1", 8): 3}
    assert report["oldestSeconds"] > 0
    assert "behind        3 events, the oldest" in await shown(site_rig)


async def test_count_ends_at_a_bound_and_says_so(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob", "carol")
    async with site_rig.worker():
        await site_rig.ask("create", CREATE)
    jetstream, subject = site_rig.nc.jetstream(), subjects.event_subject(site_rig.site, "r1.rename")
    await site_rig.publish("key.rotate", ROTATE)
    for _ in range(pending.MOST_MESSAGES + 1):
        await jetstream.publish_async(subject, b"{}")
    await jetstream.publish_async_completed()
    report = await status(site_rig)
    assert report["behindIsExact"] is False
    assert "behind        at least 1 events" in await shown(site_rig)


async def test_paused_owner_is_named_with_its_expired_lease(site_rig: Rig) -> None:
    site_rig.limits = Limits()
    async with child(site_rig) as sleeper:
        await until_owners(site_rig, lambda seen: shared(seen, 1), "it owns all")
        (owner,) = set(await owners(site_rig))
        assert f"replicas      {owner} (version " in await shown(site_rig)
        sleeper.send_signal(signal.SIGSTOP)

        async def is_expired() -> bool:
            return (await status(site_rig))["cursors"][0]["leaseExpiredSeconds"] is not None

        await until_answered(is_expired)
        report = await status(site_rig)
        assert {row["owner"] for row in report["cursors"]} == {owner}
        assert not any(row["isOwnerAlive"] for row in report["cursors"])
        assert f"{owner}, lease expired " in await shown(site_rig)
        assert "replicas      none alive" in await shown(site_rig)


async def test_room_that_is_set_aside_and_a_partition_that_stands_are_shown_with_the_cause(
    nats_url: str, own_mongo: MongoServer, site: str
) -> None:
    async with rig(nats_url, own_mongo.uri, "chat", site) as made:
        made.limit(lease_ms=2_000, set_aside_pause_s=60.0)
        await made.users("alice", "bob", "carol")
        async with made.worker():
            await made.ask("create", CREATE)
            await made.ask("create", {**CREATE, "roomId": "r2"})
            await made.db.command("collMod", "rooms", validator={"_id": {"$ne": "r1"}}, validationLevel="strict")
            for _ in range(3):
                await made.publish("key.rotate", ROTATE)

            async def is_set_aside() -> bool:
                rooms = (await status(made))["setAside"]
                return bool(rooms) and rooms[0]["events"] == 3

            await until_answered(is_set_aside)
            report = await status(made)
            assert [room["roomId"] for room in report["setAside"]] == ["r1"]
            assert "set aside     r1 (3 events, failed " in await shown(made)
            await made.db.command("collMod", "rooms", validator={"_id": 7}, validationLevel="strict")
            await made.db.command("collMod", "room_worker_outbox", validator={"_id": 7}, validationLevel="strict")
            asked = await made.publish("key.rotate", events.rotate("r2"))

            async def stands() -> bool:
                found = {row["partition"]: row["cause"] for row in (await status(made))["cursors"]}
                cause = found[partition_of("r2", 8)]
                return cause is not None and "121 DocumentValidationFailure" in cause

            await until_answered(stands)
            assert f"partition {partition_of('r2', 8)} has not moved for" in await shown(made)
            for collection in ("rooms", "room_worker_outbox"):
                await made.db.command("collMod", collection, validator={}, validationLevel="off")
            assert (await made.result(asked))["status"] == "ok"
