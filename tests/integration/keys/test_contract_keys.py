"""Contract, section 2, and `encKey` of section 5: versions, bytes, and keys that somebody else wrote or lost."""

import secrets
import time
from base64 import b64decode
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Int64

from tests.harness import events
from tests.harness.site import AT, Received, Rig

ROTATE = events.rotate("r1")
EPOCH_SECONDS = range(AT // 1000, int(time.time()) + 3_600)
Act = Callable[[Rig, str], Awaitable[dict[str, Any]]]


@pytest.fixture
async def channel(site_rig: Rig) -> Rig:
    await site_rig.users("alice", "bob", "carol", "dave")
    return site_rig


async def create(rig: Rig, *users: str, room_id: str = "r1") -> dict[str, Any]:
    body = events.create(room_id, *users)
    answer = await rig.ask("create", body)
    assert answer["status"] == "ok", answer
    return answer


async def rotate(rig: Rig, room_id: str = "r1") -> dict[str, Any]:
    answer = await rig.ask("key.rotate", {**ROTATE, "roomId": room_id})
    assert answer["status"] == "ok", answer
    return answer


async def add(rig: Rig, *users: str, room_id: str = "r1") -> dict[str, Any]:
    answer = await rig.ask("member.add", events.add(room_id, *users))
    assert answer["status"] == "ok", answer
    return answer


async def add_dave(rig: Rig, room_id: str) -> dict[str, Any]:
    return await add(rig, "dave", room_id=room_id)


def key_messages(rig: Rig, since: int = 0) -> list[Received]:
    return [item for item in rig.received[since:] if item.subject.endswith(".event.room.key")]


async def in_use(rig: Rig, room_id: str = "r1") -> tuple[int, bytes]:
    encrypted = (await rig.room(room_id))["encKey"]
    return encrypted["ver"], encrypted["priv"]


async def assert_sent_to_all(rig: Rig, room_id: str, since: int) -> None:
    """Expect that the key in use was sent to every member."""
    recipients = {item.subject.split(".")[2] for item in key_messages(rig, since)}
    assert recipients == set(await rig.members(room_id)), "sent to all"
    now = await in_use(rig, room_id)
    for account in recipients:
        assert rig.keys(account, room_id)[-1] == now, account


def assert_one_key_per_version(rig: Rig) -> None:
    keys = defaultdict(set)
    for item in key_messages(rig):
        keys[item.body["roomId"], item.body["version"]].add(item.body["privateKey"])
    several = sorted(pair for pair, of_pair in keys.items() if len(of_pair) > 1)
    assert not several, f"rooms and versions with more than one key: {several}"


async def test_a_key_is_exactly_the_four_fields_in_order(channel: Rig) -> None:
    before = time.time_ns() // 1_000_000
    async with channel.worker():
        await create(channel, "bob")
        room = await channel.room("r1")
    for item in key_messages(channel):
        private_key = item.body["privateKey"]
        version, stamped = item.body["version"], item.body["timestamp"]
        text = f'{{"roomId":"r1","version":{version},"privateKey":"{private_key}","timestamp":{stamped}}}'
        assert item.raw == text.encode()
        assert len(private_key) == 44
        assert b64decode(private_key, validate=True) == room["encKey"]["priv"]
        assert before <= stamped <= time.time_ns() // 1_000_000
        assert item.headers == {}, "key messages carry no headers"


async def test_every_recipient_of_one_fanout_gets_the_same_bytes(channel: Rig) -> None:
    accounts = [f"user-{number:03d}" for number in range(300)]
    await channel.users(*accounts)
    async with channel.worker():
        await create(channel, *accounts)
        await rotate(channel)
        await add(channel, "bob", "carol", "dave")
    raws = defaultdict(list)
    for item in key_messages(channel):
        raws[item.raw].append(item.subject)
    assert sorted(map(len, raws.values())) == [3, 301, 301], "three fan-outs, each with different bytes"
    assert all(len(set(subjects)) == len(subjects) for subjects in raws.values())


async def test_room_ids_and_accounts_of_any_script_are_served(channel: Rig) -> None:
    await channel.users("zoë", "\u7c73\u52d2", "$sys", "a/b'c\"d\\")
    accounts = ["zoë", "\u7c73\u52d2", "$sys", "a/b'c\"d\\"]
    async with channel.worker():
        body = events.create('räum"7\\', *accounts, name='say "hi"\n')
        answer = await channel.ask("create", body)
    assert (answer["status"], answer["roomId"]) == ("ok", 'räum"7\\')
    for account in accounts:
        assert channel.keys(account, 'räum"7\\') == channel.keys("alice") != [], account


async def test_a_joiner_learns_of_the_room_before_its_key(channel: Rig) -> None:
    async with channel.worker():
        await create(channel, "bob")
        await add(channel, "carol", "dave")
    subjects = [item.subject for item in channel.received]
    for account in ("alice", "bob", "carol", "dave"):
        told = subjects.index(f"chat.user.{account}.event.subscription.update")
        assert told < subjects.index(f"chat.user.{account}.event.room.key"), f"{account}: {subjects}"


async def test_versions_only_rise_and_each_has_one_key(channel: Rig) -> None:
    async with channel.worker():
        await create(channel, "bob")
        burst = [await channel.publish("key.rotate", ROTATE) for _ in range(20)]
        for request_id in burst:
            await channel.result(request_id)
        versions = [version for version, _ in channel.keys("bob")]
        assert versions == sorted(set(versions)), versions
        assert (await in_use(channel)) == channel.keys("bob")[-1]
        assert versions[-1] == 20, "every rotation counts, also where only the last of a batch got bytes"
        encrypted = (await channel.room("r1"))["encKey"]
        assert (encrypted["prevVer"], encrypted["prevPriv"]) == channel.keys("bob")[-2]
    assert_one_key_per_version(channel)


async def test_the_grace_period_is_the_settings(channel: Rig) -> None:
    async with channel.worker(grace_ms=90_000):
        await create(channel, "bob")
        await rotate(channel)
    left = (await channel.room("r1"))["encKey"]["prevExpiresAt"] - datetime.now(UTC)
    assert 30 < left.total_seconds() <= 90, left


@pytest.mark.parametrize("act", [rotate, add_dave])
async def test_after_a_foreign_key_everyone_gets_the_next_version_above_all(channel: Rig, act: Act) -> None:
    async with channel.worker():
        for number, foreign_version in enumerate((7, Int64(7), 2, 0)):
            room_id = f"r{number}"
            await create(channel, "bob", room_id=room_id)
            await rotate(channel, room_id)
            await rotate(channel, room_id)
            foreign = {"priv": secrets.token_bytes(32), "ver": foreign_version}
            await channel.db.rooms.update_one({"_id": room_id}, {"$set": {"encKey": foreign}})
            since = len(channel.received)
            await act(channel, room_id)
            version, _ = await in_use(channel, room_id)
            assert version == max(foreign_version, 2) + 1, f"{version} after a foreign {foreign_version}"
            await assert_sent_to_all(channel, room_id, since)
    assert_one_key_per_version(channel)


async def test_a_foreign_key_that_is_no_key_still_shows_a_version_that_was_used(channel: Rig) -> None:
    no_keys: dict[str, dict[str, Any]] = {
        "short": {"priv": b"too short", "ver": 50},
        "text": {"priv": "not bytes", "ver": 50},
        "without-priv": {"ver": 50},
        "double": {"priv": b"k" * 32, "ver": 50.0},
    }
    seen = {}
    async with channel.worker():
        for name, foreign in no_keys.items():
            await create(channel, "bob", room_id=name)
            await channel.db.rooms.update_one({"_id": name}, {"$set": {"encKey": foreign}})
            await rotate(channel, name)
            seen[name], _ = await in_use(channel, name)
    assert {name: version for name, version in seen.items() if version <= 50} == {}, "the rooms have seen version 50"


@pytest.mark.parametrize("act", [rotate, add_dave])
async def test_after_a_lost_key_everyone_gets_a_version_above_all(channel: Rig, act: Act) -> None:
    lost: dict[str, tuple[dict[str, str], range]] = {
        "in-use": ({"encKey": ""}, range(2, 3)),
        "all": ({"encKey": "", "keyRotation": ""}, EPOCH_SECONDS),
    }
    async with channel.worker():
        for room_id, (gone, versions) in lost.items():
            await create(channel, "bob", room_id=room_id)
            await rotate(channel, room_id)
            await channel.db.rooms.update_one({"_id": room_id}, {"$unset": gone})
            since = len(channel.received)
            await act(channel, room_id)
            assert (await in_use(channel, room_id))[0] in versions, room_id
            await assert_sent_to_all(channel, room_id, since)
    assert_one_key_per_version(channel)


async def test_a_lost_key_is_made_anew_by_a_create_of_the_room_that_exists(channel: Rig) -> None:
    async with channel.worker():
        await create(channel, "bob", "carol")
        await channel.db.rooms.update_one({"_id": "r1"}, {"$unset": {"encKey": ""}})
        await create(channel, "bob")
        now = await in_use(channel)
    assert now[0] == 1
    assert channel.keys("carol")[-1] == channel.keys("bob")[-1] == now


async def test_a_room_without_any_key_of_an_older_system_gets_one_for_all(channel: Rig) -> None:
    room = {"_id": "r1", "type": "channel", "siteId": channel.site, "name": "old", "userCount": 1, "appCount": 0}
    await channel.db.rooms.insert_one(room)
    u = {"_id": "u-bob", "account": "bob", "isBot": False}
    await channel.db.subscriptions.insert_one({"_id": "s1", "roomId": "r1", "u": u, "roles": ["member"]})
    async with channel.worker():
        await add(channel, "carol")
        now = await in_use(channel)
    assert now[0] in EPOCH_SECONDS
    assert channel.keys("bob") == channel.keys("carol") == [now]


async def test_versions_do_not_fall_when_a_producers_clock_is_wrong(channel: Rig) -> None:
    """A room with no trace of a version goes on from epoch seconds: above what it used before."""
    async with channel.worker():
        await create(channel, "bob")
        for _ in range(3):
            await rotate(channel)
        used = channel.keys("bob")[-1][0]
        await channel.db.rooms.update_one({"_id": "r1"}, {"$unset": {"encKey": "", "keyRotation": ""}})
        await channel.ask("key.rotate", {**ROTATE, "timestamp": 1})
    seen = channel.keys("bob")[-1][0]
    assert seen > used, f"version {seen} after {used}"
    assert_one_key_per_version(channel)


async def test_a_foreign_key_in_use_is_the_previous_key_of_the_next(channel: Rig) -> None:
    async with channel.worker():
        await create(channel, "bob")
        foreign = {"priv": secrets.token_bytes(32), "ver": 9}
        await channel.db.rooms.update_one({"_id": "r1"}, {"$set": {"encKey": foreign}})
        await rotate(channel)
    encrypted = (await channel.room("r1"))["encKey"]
    assert (encrypted["ver"], encrypted["prevVer"], encrypted["prevPriv"]) == (10, 9, foreign["priv"])


async def test_other_fields_of_a_room_survive_what_the_worker_writes(channel: Rig) -> None:
    async with channel.worker():
        await create(channel, "bob")
        theirs = {"lastMsgId": "m1", "topic": {"text": "hi"}}
        await channel.db.rooms.update_one({"_id": "r1"}, {"$set": theirs})
        await rotate(channel)
        await add(channel, "carol")
    room = await channel.room("r1")
    assert {field: room[field] for field in theirs} == theirs
    assert set(await channel.members("r1")) == {"alice", "bob", "carol"}
