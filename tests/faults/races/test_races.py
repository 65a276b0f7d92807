"""Races that real systems met, each as a test that is named after it."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from pymongo.monitoring import CommandListener, CommandStartedEvent

from store.database import connect
from tests.faults.machinery.wire import Swallow
from tests.harness import events
from tests.harness.gates import PageGate
from tests.harness.processes import child
from tests.harness.proxy import proxied
from tests.harness.site import Rig, rig
from worker import app
from worker.local.servers import MongoServer, NatsServer
from worker.pipeline import deliver

CREW = ["bob", "carol", "dave", "erin", "frank"]


@asynccontextmanager
async def channel(made: Rig, limits: dict[str, float] | None = None, **changes: Any) -> AsyncIterator[None]:
    """Run a worker beside a room r1 of alice and the crew, all of whom hold version 0."""
    made.limit(**(limits or {}))
    await made.users("alice", "zoe", *CREW)
    async with made.worker(**changes):
        await create(made, "r1")
        yield


async def create(made: Rig, room_id: str) -> None:
    body = events.create(room_id, *CREW, name=room_id)
    assert (await made.ask("create", body))["status"] == "ok"


def removal(account: str, room_id: str = "r1") -> tuple[str, dict[str, Any]]:
    return "member.remove", events.remove(room_id, account=account)


def rotation(room_id: str = "r1") -> tuple[str, dict[str, Any]]:
    return "key.rotate", events.rotate(room_id)


def addition(account: str, room_id: str = "r1") -> tuple[str, dict[str, Any]]:
    return "member.add", events.add(room_id, account)


async def key_in_use(made: Rig, room_id: str = "r1") -> tuple[int, bytes]:
    in_use = (await made.room(room_id))["encKey"]
    return in_use["ver"], in_use["priv"]


async def all_hold_the_key_in_use(made: Rig, *but: str, room_id: str = "r1") -> None:
    """Check that the members, and nobody of those left out, were sent the key that is in use."""
    in_use = await key_in_use(made, room_id)
    members = await made.members(room_id)
    assert [account for account in members if in_use not in made.keys(account, room_id)] == []
    assert [account for account in but if account in members or in_use in made.keys(account, room_id)] == []


async def test_a_neither_of_two_who_are_removed_at_once_holds_the_final_key(site_rig: Rig) -> None:
    async with channel(site_rig):
        asked = await asyncio.gather(*(site_rig.publish(*removal(account)) for account in ("bob", "carol")))
        assert [(await site_rig.result(one))["status"] for one in asked] == ["ok", "ok"]
        await all_hold_the_key_in_use(site_rig, "bob", "carol")


async def test_b_a_version_has_one_key_over_all_payloads_and_the_store(site_rig: Rig) -> None:
    """Two workers, killed in turn, while keys rotate."""
    site_rig.limit(lease_ms=2_000)
    await site_rig.users("alice", *CREW)
    keys: defaultdict[int, set[bytes]] = defaultdict(set)
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(child(site_rig)) for _ in range(2)]
        await create(site_rig, "r1")
        for _ in range(3):
            asked = [await site_rig.publish(*rotation()) for _ in range(5)]
            workers.pop(0).kill()
            workers.append(await stack.enter_async_context(child(site_rig)))
            rotations = [(await site_rig.result(one))["status"] for one in asked]
            assert rotations == ["ok"] * 5
    room = await site_rig.room("r1")
    stored = [(past["ver"], past["priv"]) for past in room["keyRotation"]["past"]]
    for version, key in [*stored, await key_in_use(site_rig), *(key for one in CREW for key in site_rig.keys(one))]:
        keys[version].add(key)
    assert {version: len(of_version) for version, of_version in keys.items() if len(of_version) > 1} == {}
    assert max(keys) == 15


async def test_c_after_a_crash_between_commit_and_publish_the_same_version_goes_out(site_rig: Rig) -> None:
    site_rig.limit(lease_ms=2_000)
    await site_rig.users("alice", *CREW)
    async with site_rig.worker():
        await create(site_rig, "r1")
    async with child(site_rig, AT_STEP="deliver:before:1") as doomed:
        asked = await site_rig.publish(*removal("bob"))
        await asyncio.wait_for(doomed.wait(), 30)
    room = await site_rig.room("r1")
    staged = (room["keyRotation"]["staged"]["ver"], room["keyRotation"]["staged"]["priv"])
    assert (room["encKey"]["ver"], staged[0]) == (0, 1), "committed, and not sent"
    assert staged not in site_rig.keys("carol")
    async with child(site_rig):
        assert (await site_rig.result(asked))["status"] == "ok"
        await all_hold_the_key_in_use(site_rig, "bob")
    assert await key_in_use(site_rig) == staged, "no second rotation"


async def test_d_when_some_recipients_fail_all_are_served_in_the_end(site_rig: Rig) -> None:
    """What would reach two of them is swallowed on its way to the broker, then the connection breaks."""
    async with proxied(site_rig.settings.nats_url[0]) as proxy, channel(site_rig, nats_url=[proxy.url]):
        proxy.fault = swallow = Swallow(b"PUB chat.user.dave.event.room.key")
        assert (await site_rig.ask(*removal("bob")))["status"] == "ok"
        assert swallow.struck, "nothing was swallowed"
        await all_hold_the_key_in_use(site_rig, "bob")


async def test_e_who_is_added_during_a_rotation_ends_on_the_new_key(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_rig.limit(large_room_members=2)
    async with channel(site_rig):
        gate = PageGate(monkeypatch, "r1", before_page=1)
        asked = [await site_rig.publish(*removal("bob"))]
        await gate.until_reached()
        asked.append(await site_rig.publish(*addition("zoe")))
        await site_rig.until(lambda: len(site_rig.keys("zoe")) == 2, "both keys")
        gate.released.set()
        assert [(await site_rig.result(one))["status"] for one in asked] == ["ok", "ok"]
        await all_hold_the_key_in_use(site_rig, "bob")
    assert [version for version, _ in site_rig.keys("zoe")][:2] == [0, 1]


async def test_f_a_key_record_that_was_lost_is_made_anew_above_every_old_version(site_rig: Rig) -> None:
    async with channel(site_rig):
        for _ in range(3):
            await site_rig.ask(*rotation())
        await site_rig.db.rooms.update_one({"_id": "r1"}, {"$unset": {"encKey": ""}})
        await site_rig.ask(*addition("zoe"))
        await all_hold_the_key_in_use(site_rig)
        assert (await key_in_use(site_rig))[0] == 4
        await site_rig.db.rooms.update_one({"_id": "r1"}, {"$unset": {"encKey": "", "keyRotation": ""}})
        await site_rig.ask(*rotation())
        await all_hold_the_key_in_use(site_rig)
        assert (await key_in_use(site_rig))[0] > 4


class Reads(CommandListener):
    """Notes what reads ask of the database, and what the first commands of transactions ask for all of theirs."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in {"find", "aggregate"} or event.command.get("startTransaction"):
            self.asked.append(dict(event.command))

    def succeeded(self, _event: object) -> None:
        """Do nothing: what counts is what was asked."""

    def failed(self, _event: object) -> None:
        """Do nothing: what counts is what was asked."""


async def test_g_members_and_keys_are_read_from_the_primary_as_the_majority_has_them(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the URL says."""
    site_rig.limit(page_accounts=2, erase_s=3_600)
    reads = Reads()
    monkeypatch.setattr(app, "connect", lambda *args, **kwargs: connect(*args, **kwargs, listeners=[reads]))
    uri = site_rig.settings.mongo_uri.get_secret_value()
    joint = "&" if "?" in uri else "?"
    lax = type(site_rig.settings.mongo_uri)(f"{uri}{joint}readPreference=secondaryPreferred&readConcernLevel=local")
    async with channel(site_rig, mongo_uri=lax):
        reads.asked.clear()  # of the start-up
        await site_rig.ask(*removal("bob"))
    about = {"subscriptions", "rooms"}
    read = [one for one in reads.asked if one.get("find") in about or one.get("aggregate") in about]
    alone = [one for one in read if "autocommit" not in one]
    transactions = [one for one in reads.asked if one.get("startTransaction")]
    assert len(alone) > 3
    assert len(read) > len(alone), "settling looks inside its transaction"
    for one in read + transactions:
        assert one.get("$readPreference", {"mode": "primary"})["mode"] in {"primary", "primaryPreferred"}
    for one in alone + transactions:
        assert one["readConcern"]["level"] == ("snapshot" if one in transactions else "majority")
        assert "afterClusterTime" in one["readConcern"], "causally after what was written before"


async def test_h_healthy_events_flow_beside_a_flood_of_poison(site_rig: Rig) -> None:
    async with channel(site_rig):
        bad = [await site_rig.publish("member.remove", b'{"roomId":"r1","requester":{}}') for _ in range(300)]
        good = await site_rig.publish(*removal("bob"))
        worse = [await site_rig.publish("member.add", b"{") for _ in range(300)]
        assert (await site_rig.result(good))["status"] == "ok"
        await all_hold_the_key_in_use(site_rig, "bob")
        letters = f"chat.room.deadletter.{site_rig.site}"
        await site_rig.until(lambda: len(site_rig.of(letters)) == len(bad) + len(worse), "a letter each")


async def test_i_recipients_are_the_members_and_a_page_that_fails_fails_the_fan_out(
    nats_url: str, own_mongo: MongoServer, site: str
) -> None:
    small_pages = {"page_accounts": 2.0}
    async with rig(nats_url, own_mongo.uri, "chat", site) as made, channel(made, small_pages):
        admin = made.db.client.admin
        # One page is skipped; the second one breaks.
        data = {"failCommands": ["aggregate"], "errorCode": 11600, "namespace": "chat.subscriptions"}
        await admin.command({"configureFailPoint": "failCommand", "mode": {"skip": 1}, "data": data})
        asked = await made.publish(*removal("bob"))
        staged = (await until_staged(made))["ver"]
        assert staged == 1
        assert (await key_in_use(made))[0] == 0
        assert asked not in made.results
        await admin.command({"configureFailPoint": "failCommand", "mode": "off"})
        assert (await made.result(asked))["status"] == "ok"
        await all_hold_the_key_in_use(made, "bob")


async def until_staged(made: Rig) -> dict[str, Any]:
    """Wait until r1 has a staged key."""
    async with asyncio.timeout(30), await made.db.rooms.watch() as changes:
        while "staged" not in (rotating := (await made.room("r1"))["keyRotation"]):
            await changes.next()
    return dict(rotating["staged"])


async def test_j_a_removal_that_comes_twice_rotates_once(site_rig: Rig) -> None:
    async with channel(site_rig):
        asked = [await site_rig.publish(*removal("bob")) for _ in range(3)]
        assert [(await site_rig.result(one))["status"] for one in asked] == ["ok"] * 3
        await site_rig.ask(*removal("bob"))
        assert (await key_in_use(site_rig))[0] == 1


async def test_k_a_stalled_room_delays_no_other(site_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small room that stalls holds up its partition at most, a big one nobody."""
    site_rig.limit(large_room_members=2)
    async with channel(site_rig, partitions=4):
        names = [f"other{number}" for number in range(8)]
        for room_id in names:
            await create(site_rig, room_id)
        gate = PageGate(monkeypatch, "r1", before_page=1)
        asked = await site_rig.publish(*removal("bob"))
        await gate.until_reached()
        for room_id in names:
            assert (await site_rig.ask(*removal("bob", room_id)))["status"] == "ok"
        assert asked not in site_rig.results
        gate.released.set()
        assert (await site_rig.result(asked))["status"] == "ok"


async def test_l_an_event_whose_broker_is_killed_in_mid_fan_out_is_not_finished(
    own_nats: NatsServer, mongo_uri: str, database: str, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pages = {"page_accounts": 2.0}
    async with rig(own_nats.url, mongo_uri, database, site) as made, channel(made, small_pages):
        gate = PageGate(monkeypatch, "r1", before_page=1, module=deliver)
        asked = await made.publish(*removal("bob"))
        await gate.until_reached()
        await own_nats.kill()
        gate.released.set()
        assert (await key_in_use(made))[0] == 0, "nobody has confirmed version 1"
        await own_nats.start()
        assert (await made.result(asked))["status"] == "ok"
        await all_hold_the_key_in_use(made, "bob")


async def test_o_a_restart_or_a_rename_rotates_nothing(site_rig: Rig) -> None:
    async with channel(site_rig):
        pass
    await site_rig.publish("rename", {"roomId": "r1", "name": "elsewhere"})
    async with site_rig.worker():
        await site_rig.ask(*removal("zoe"))
    assert (await key_in_use(site_rig))[0] == 0
