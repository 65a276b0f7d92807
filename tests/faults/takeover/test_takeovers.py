"""A partition that changes hands: who had it does no harm, and who has it tells nobody old news last.

Each of these is a counterexample of the protocol's model, played on real servers. (tests/verification/model)
"""

import pytest

from roomkeys.errors import TransientError, Unexpected
from roomkeys.events.position import StreamPosition
from roomkeys.subjects import events_stream, events_subjects
from store.database import Driver, connect, session_id
from store.leases.lease import ensure_cursors, read_cursors, take_lease
from tests.harness import events
from tests.harness.gates import PageGate
from tests.harness.site import Rig
from worker.local.servers import MongoServer

MEMBERS = [f"m{number}" for number in range(8)]
BIG = events.create("big", *MEMBERS, name="Big")


@pytest.fixture(autouse=True)
def small_limits(site_rig: Rig) -> None:
    """Make a room of five large, and pages and slices three accounts long."""
    site_rig.limit(large_room_members=4, page_accounts=3, batch_accounts=3)


async def founded(made: Rig) -> None:
    await made.users("aaron", "alice", "zed", *MEMBERS)
    await made.ask("create", BIG)


async def remove(made: Rig, *accounts: str) -> str:
    body = events.remove("big", accounts=accounts)
    return await made.publish("member.remove", body)


def updates(made: Rig, account: str) -> list[str]:
    return [body["action"] for body in made.of(f"chat.user.{account}.event.subscription.update")]


async def test_who_left_in_a_slice_is_not_told_of_having_joined_by_whoever_comes_next(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The join waits for a pass; the slice that undoes it is paid before it."""
    async with site_rig.worker(partitions=1) as stop:
        await founded(site_rig)
        gate = PageGate(monkeypatch, "big")
        await remove(site_rig, "m7")
        await gate.until_reached()
        await site_rig.publish("member.add", events.add("big", "aaron"))
        await site_rig.until(lambda: updates(site_rig, "aaron") == ["added"], "the join")
        asked = await remove(site_rig, "aaron", *MEMBERS[:6])
        await site_rig.until(lambda: updates(site_rig, "m5") == ["added", "removed"], "the last slice")
        stop.set()
    gate.released.set()
    async with site_rig.worker(partitions=1):
        assert (await site_rig.result(asked))["status"] == "ok"
    assert updates(site_rig, "aaron")[-1] == "removed", updates(site_rig, "aaron")


async def test_a_pass_of_who_had_the_partition_brings_no_key_to_who_joined_since(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The join is the next owner's, who has not sent its notice yet."""
    async with site_rig.worker(partitions=1):
        await founded(site_rig)
        gate = PageGate(monkeypatch, "big")
        await remove(site_rig, "m7")
        await gate.until_reached()
        taken = {"$set": {"owner": "another"}, "$inc": {"epoch": 1}}
        await site_rig.db.room_worker_cursors.update_one({"partition": 0}, taken)
        like = await site_rig.db.subscriptions.find_one({"roomId": "big", "u.account": "m6"})
        user = {"_id": "u-zed", "account": "zed", "isBot": False}
        await site_rig.db.subscriptions.insert_one({**like, "_id": "0" * 32, "u": user})
        gate.released.set()
        await gate.until_ended()
    await site_rig.nc.flush()
    assert [version for version, _ in site_rig.keys("zed")] == []


async def test_whose_removal_is_older_than_the_stream_is_told_last_that_they_came_back(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries of two leases wait for one pass: the second stream's sequences are lower than the first one's."""
    async with site_rig.worker(partitions=1) as stop:
        await founded(site_rig)
        for number in range(3):
            await site_rig.ask("create", {"roomId": f"r{number}", "name": "r", "requesterAccount": "alice"})
        gate = PageGate(monkeypatch, "big")
        asked = [await remove(site_rig, "m7")]
        await gate.until_reached()
        gate.reached.clear()
        jetstream = site_rig.nc.jetstream()
        await jetstream.delete_stream(events_stream(site_rig.site))
        await jetstream.add_stream(name=events_stream(site_rig.site), subjects=[events_subjects(site_rig.site)])
        await gate.until_reached()  # the lease is taken again: the pass starts over
        told = len(updates(site_rig, "m7"))
        body = events.add("big", "m7")
        asked.append(await site_rig.publish("member.add", body))
        await site_rig.until(lambda: len(updates(site_rig, "m7")) > told, "the notice")
        stop.set()
    site_rig.received.clear()
    gate.released.set()
    async with site_rig.worker(partitions=1):
        for one in asked:
            assert (await site_rig.result(one))["status"] == "ok"
    assert updates(site_rig, "m7")[-1] == "added"


async def test_a_removal_is_no_success_before_the_key_above_a_strangers_is_in_use(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program uses a key above the staged one; the partition changes hands under the next one's pass."""
    async with site_rig.worker(partitions=1) as stop:
        await founded(site_rig)
        gate = PageGate(monkeypatch, "big")
        asked = await remove(site_rig, "m7")
        await gate.until_reached()
        await site_rig.db.rooms.update_one({"_id": "big"}, {"$set": {"encKey": {"priv": b"f" * 32, "ver": 50}}})
        gate.released.set()
        await gate.until_ended()
        gate.reached.clear()
        gate.released.clear()
        await gate.until_reached()
        stop.set()
    gate.released.set()
    async with site_rig.worker(partitions=1):
        assert (await site_rig.result(asked))["status"] == "ok"
        in_use = (await site_rig.room("big"))["encKey"]
        assert in_use["ver"] == 51
        holders = {account for account in ("alice", *MEMBERS) if (51, in_use["priv"]) in site_rig.keys(account)}
        assert holders == {"alice", *MEMBERS} - {"m7"}


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_who_is_not_told_that_a_lease_was_taken_gives_its_session_to_nobody(
    own_mongo: MongoServer, driver: Driver
) -> None:
    database = connect(own_mongo.uri, "chat", driver)
    await ensure_cursors(database, "s", 1, StreamPosition(0, 0, 0))
    (seen,) = await read_cursors(database, "s")
    late = {"code": 64, "errmsg": "waiting for replication timed out"}
    hindrance = {"failCommands": ["findAndModify"], "writeConcernError": late}
    await database.client.admin.command(
        {"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": hindrance}
    )
    with pytest.raises((TransientError, Unexpected)):
        await take_lease(database, seen, "me")
    await database["later"].insert_one({})  # once the majority has this, it has that too
    (taken,) = await read_cursors(database, "s")
    assert taken["owner"] == "me"
    others = [await database.start_session() for _ in range(3)]
    for other in others:
        await database.find("rooms", {}, {}, other)
    assert bytes(taken["session"]) not in {session_id(other).bytes for other in others}
    for other in others:
        await other.end_session()
    await database.close()
