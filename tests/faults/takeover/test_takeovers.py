"""Takeovers: the previous owner does no harm, and the next owner sends no outdated notice last.

Each of these is a counterexample of the protocol's model, played on real servers. (tests/verification/model)
"""

import pytest

from roomkeys.errors import TransientError
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


async def test_next_owner_sends_no_added_notice_after_the_removal_of_a_slice(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result of the add waits for a pass; the slice that undoes the add is finished first."""
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


async def test_pass_of_the_previous_owner_sends_no_key_to_a_later_joiner(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next owner applies the add and has not sent its notice yet."""
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


async def test_member_added_after_the_stream_is_recreated_receives_added_last(
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


async def test_removal_succeeds_only_with_a_key_above_that_of_another_program(
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
async def test_session_of_a_lease_with_an_unknown_write_result_is_not_reused(
    own_mongo: MongoServer, driver: Driver
) -> None:
    database = connect(own_mongo.uri, "chat", driver)
    await ensure_cursors(database, "s", 1, StreamPosition(0, 0, 0))
    (seen,) = await read_cursors(database, "s")
    late = {"code": 64, "errmsg": "waiting for replication timed out"}
    hindrance = {"failCommands": ["findAndModify"], "writeConcernError": late}
    await database.client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": hindrance})
    with pytest.raises(TransientError):
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
