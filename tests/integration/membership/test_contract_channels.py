"""Contract, sections 1, 3 and 5, for channels: what each operation writes and says, field for field."""

import re
import time
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from tests.harness.site import AT, Received, Rig, rig

AT_DATE = datetime(2025, 5, 11, 21, 46, 40, tzinfo=UTC)
LATER = AT + 90_001
LATER_DATE = datetime(2025, 5, 11, 21, 48, 10, 1000, tzinfo=UTC)
UUID7 = re.compile(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}")
FLAGS: dict[str, Any] = dict.fromkeys(
    ("hasMention", "alert", "muted", "favorite", "hasGroupMention", "hasUnread"), False
)
EVERYBODY = ("alice", "bob", "carol", "dave")


@pytest.fixture
async def channel(site_rig: Rig) -> Rig:
    """Know four people; rooms are made by the tests."""
    await site_rig.users(*EVERYBODY)
    return site_rig


async def create(rig: Rig, *users: str, **fields: Any) -> dict[str, Any]:
    body = {"roomId": "r1", "name": "general", "users": list(users), "orgs": [], "channels": []}
    return await rig.ask("create", {**body, "requesterId": "u-alice", "requesterAccount": "alice", **fields})


async def add(rig: Rig, *users: str, **fields: Any) -> dict[str, Any]:
    return await rig.ask("member.add", {"roomId": "r1", "users": users, "requesterAccount": "alice", **fields})


async def remove(rig: Rig, **fields: Any) -> dict[str, Any]:
    return await rig.ask("member.remove", {"roomId": "r1", "requester": "alice", **fields})


def about_now(epoch_ms: int) -> bool:
    return abs(epoch_ms - time.time() * 1000) < 60_000


def same(item: Received, expected: dict[str, Any]) -> bool:
    """Compare a body with its fields in order; its time stamp only has to be of now."""
    assert about_now(item.body["timestamp"]), item.body
    seen, wanted = orjson.dumps(item.body), orjson.dumps({**expected, "timestamp": item.body["timestamp"]})
    assert seen == wanted, f"{item.subject}: {seen!r} is not {wanted!r}"
    return True


def subjects(rig: Rig, since: int = 0) -> list[str]:
    return [item.subject for item in rig.received[since:]]


def update(account: str) -> str:
    return f"chat.user.{account}.event.subscription.update"


def key(account: str) -> str:
    return f"chat.user.{account}.event.room.key"


async def test_a_created_channel_is_the_document_of_the_contract(channel: Rig) -> None:
    async with channel.worker():
        answer = await create(channel, "bob", "carol")
    assert answer["status"] == "ok", answer
    room = await channel.room("r1")
    assert room.pop("keyRotation")
    encrypted = room.pop("encKey")
    assert room == {
        "_id": "r1",
        "name": "general",
        "type": "channel",
        "siteId": channel.site,
        "userCount": 3,
        "appCount": 0,
        "lastMsgId": "",
        "createdAt": AT_DATE,
        "updatedAt": AT_DATE,
    }
    assert set(encrypted) == {"priv", "ver"}, encrypted.keys()
    assert type(encrypted["ver"]) is int
    assert encrypted["ver"] == 0
    assert type(encrypted["priv"]) is bytes, "BinData of subtype 0"
    assert len(encrypted["priv"]) == 32
    types = {"$project": {"priv": {"$type": "$encKey.priv"}, "created": {"$type": "$createdAt"}}}
    found = await (await channel.db.rooms.aggregate([types])).to_list(None)
    assert found == [{"_id": "r1", "priv": "binData", "created": "date"}]


async def test_the_requester_is_the_owner_and_everyone_else_a_member(channel: Rig) -> None:
    async with channel.worker():
        await create(channel, "bob", "alice", "bob")
    members = await channel.members("r1")
    assert set(members) == {"alice", "bob"}
    for account, roles in (("alice", ["owner"]), ("bob", ["member"])):
        document = members[account]
        assert UUID7.fullmatch(document.pop("_id"))
        assert document == {
            "u": {"_id": f"u-{account}", "account": account, "isBot": False},
            "roomId": "r1",
            "siteId": channel.site,
            "roles": roles,
            "name": "general",
            "roomType": "channel",
            "joinedAt": AT_DATE,
            **FLAGS,
        }
    assert await channel.db.room_members.count_documents({}) == 0, "rows in a room without orgs"


async def test_a_create_tells_each_member_then_sends_version_0_and_answers_last(channel: Rig) -> None:
    async with channel.worker():
        answer = await create(channel, "bob")
    *notices, first_key, second_key, result = channel.received
    assert {item.subject for item in notices} == {update("alice"), update("bob")}, subjects(channel)
    assert {first_key.subject, second_key.subject} == {key("alice"), key("bob")}, subjects(channel)
    assert first_key.raw == second_key.raw
    assert result.subject == f"chat.user.alice.response.{answer['requestId']}"
    members = await channel.members("r1")
    for item in notices:
        account = item.subject.split(".")[2]
        assert same(
            item,
            {
                "userId": f"u-{account}",
                "subscription": {
                    "id": members[account]["_id"],
                    "u": {"id": f"u-{account}", "account": account, "isBot": False},
                    "roomId": "r1",
                    "siteId": channel.site,
                    "roles": members[account]["roles"],
                    "name": "general",
                    "roomType": "channel",
                    "joinedAt": "2025-05-11T21:46:40Z",
                    **FLAGS,
                },
                "action": "added",
                "roomName": "general",
                "timestamp": 0,
            },
        )
    assert same(
        result,
        {"requestId": answer["requestId"], "operation": "room.create", "status": "ok", "roomId": "r1", "timestamp": 0},
    )


async def test_an_add_tells_the_joiner_then_the_room_then_sends_the_key_and_answers(channel: Rig) -> None:
    async with channel.worker():
        await create(channel, "bob")
        before = await channel.room("r1")
        since = len(channel.received)
        answer = await add(channel, "dave", "bob", timestamp=LATER)
        joiner, room, sent, result = channel.received[since:]
    assert [joiner.subject, room.subject, sent.subject] == [update("dave"), "chat.room.r1.event.member", key("dave")]
    dave = (await channel.members("r1"))["dave"]
    assert dave["joinedAt"] == LATER_DATE
    assert "historySharedSince" not in dave
    assert joiner.body["subscription"]["id"] == dave["_id"]
    assert joiner.body["subscription"]["joinedAt"] == "2025-05-11T21:48:10.001Z"
    assert "historySharedSince" not in joiner.body["subscription"]
    assert same(
        room,
        {
            "type": "member_added",
            "roomId": "r1",
            "roomName": "general",
            "roomType": "channel",
            "accounts": ["dave"],
            "siteId": channel.site,
            "requesterAccount": "alice",
            "joinedAt": LATER,
            "timestamp": 0,
        },
    )
    assert same(
        result,
        {
            "requestId": answer["requestId"],
            "operation": "room.member.add",
            "status": "ok",
            "roomId": "r1",
            "timestamp": 0,
        },
    )
    after = await channel.room("r1")
    assert after["encKey"] == before["encKey"], "an add rotates nothing"
    assert channel.keys("dave") == channel.keys("bob") == [(0, after["encKey"]["priv"])]
    assert (after["userCount"], after["createdAt"]) == (3, AT_DATE)
    assert about_now(after["updatedAt"].timestamp() * 1000)


async def test_history_mode_none_says_since_when_in_document_and_notices(channel: Rig) -> None:
    async with channel.worker():
        await create(channel, "bob")
        since = len(channel.received)
        await add(channel, "carol", history={"mode": "none"}, timestamp=LATER)
        joiner, room, *_ = channel.received[since:]
        await add(channel, "dave", history={"mode": "all"})
    members = await channel.members("r1")
    assert members["carol"]["historySharedSince"] == LATER_DATE
    assert "historySharedSince" not in members["dave"]
    fields = list(joiner.body["subscription"])
    assert fields[fields.index("roomType") :][:3] == ["roomType", "historySharedSince", "joinedAt"]
    assert joiner.body["subscription"]["historySharedSince"] == "2025-05-11T21:48:10.001Z"
    assert list(room.body)[-3:] == ["joinedAt", "historySharedSince", "timestamp"]
    assert room.body["historySharedSince"] == LATER


async def test_a_removal_tells_who_left_and_the_room_before_the_new_key(channel: Rig) -> None:
    async with channel.worker():
        await create(channel, "bob", "carol")
        before = await channel.room("r1")
        since = len(channel.received)
        answer = await remove(channel, account="bob", roomType="channel")
        left, room, *keys, result = channel.received[since:]
    assert [left.subject, room.subject] == [update("bob"), "chat.room.r1.event.member"]
    assert same(
        left,
        {
            "userId": "u-bob",
            "subscription": {
                "roomId": "r1",
                "roomType": "channel",
                "u": {"id": "u-bob", "account": "bob", "isBot": False},
            },
            "action": "removed",
            "timestamp": 0,
        },
    )
    assert same(
        room, {"type": "member_removed", "roomId": "r1", "accounts": ["bob"], "siteId": channel.site, "timestamp": 0}
    )
    assert {item.subject for item in keys} == {key("alice"), key("carol")}, subjects(channel, since)
    assert answer["operation"] == "room.member.remove"
    assert result.body == answer
    after = await channel.room("r1")
    encrypted = after["encKey"]
    assert list(encrypted) == ["priv", "ver", "prevPriv", "prevVer", "prevExpiresAt"]
    assert (encrypted["ver"], encrypted["prevVer"]) == (1, 0)
    assert encrypted["prevPriv"] == before["encKey"]["priv"] != encrypted["priv"]
    expires_in = encrypted["prevExpiresAt"].timestamp() - time.time()
    assert abs(expires_in - 24 * 3600) < 60, f"the replaced key expires in {expires_in} s, not in 24 h"
    assert (after["userCount"], after["appCount"]) == (2, 0)
    assert about_now(after["updatedAt"].timestamp() * 1000)


async def test_who_removes_only_themself_has_left(channel: Rig) -> None:
    async with channel.worker():
        await create(channel, "bob")
        await remove(channel, requester="bob", account="bob")
    assert [body["type"] for body in channel.of("chat.room.r1.event.member")] == ["member_left"]


async def test_several_accounts_leave_in_one_removal_with_one_rotation(channel: Rig) -> None:
    async with channel.worker():
        await create(channel, "bob", "carol", "dave")
        since = len(channel.received)
        answer = await remove(channel, accounts=["carol", "bob", "carol"])
    assert answer["status"] == "ok", answer
    assert set(await channel.members("r1")) == {"alice", "dave"}
    assert subjects(channel, since)[:3] == [update("carol"), update("bob"), "chat.room.r1.event.member"]
    assert channel.of("chat.room.r1.event.member")[0]["accounts"] == ["carol", "bob"]
    assert [version for version, _ in channel.keys("dave")] == [0, 1]
    assert channel.keys("alice") == channel.keys("dave")
    assert (await channel.room("r1"))["userCount"] == 2


async def test_a_rotation_changes_the_key_and_nothing_else(channel: Rig) -> None:
    async with channel.worker():
        await create(channel, "bob")
        before = await channel.room("r1")
        since = len(channel.received)
        answer = await channel.ask("key.rotate", {"roomId": "r1", "requester": "alice", "reason": "leak"})
    assert answer["operation"] == "room.key.rotate"
    assert sorted(subjects(channel, since)[:-1]) == [key("alice"), key("bob")]
    after = await channel.room("r1")
    assert (after["encKey"]["ver"], after["encKey"]["prevVer"]) == (1, 0)
    for field in ("userCount", "appCount", "createdAt", "name", "type"):
        assert after[field] == before[field], field


@pytest.mark.parametrize("middle", ["", "r1.", "eu.west.r1."])
async def test_the_operation_is_the_suffix_whatever_stands_before_it(channel: Rig, middle: str) -> None:
    async with channel.worker():
        body = {"roomId": "r1", "name": "general", "users": ["bob"], "requesterAccount": "alice"}
        assert (await channel.ask(f"{middle}create", body))["operation"] == "room.create"
        gone = {"roomId": "r1", "requester": "alice", "account": "bob"}
        assert (await channel.ask(f"{middle}member.remove", gone))["operation"] == "room.member.remove"
    assert set(await channel.members("r1")) == {"alice"}


async def test_nothing_to_do_is_ok_and_sends_and_rotates_nothing(channel: Rig) -> None:
    async with channel.worker():
        await create(channel, "bob")
        before = await channel.room("r1")
        since = len(channel.received)
        for answer in (
            await add(channel, "bob"),
            await add(channel),
            await add(channel, "some.bot"),
            await remove(channel, account="dave"),
            await remove(channel, accounts=["dave", "carol"]),
            await remove(channel, orgId="nobodys"),
        ):
            assert (answer["status"], set(answer) & {"error", "code", "reason"}) == ("ok", set()), answer
    assert all(".response." in subject for subject in subjects(channel, since)), subjects(channel, since)
    assert await channel.room("r1") == before


async def test_a_repeated_removal_does_not_rotate(channel: Rig) -> None:
    async with channel.worker():
        await create(channel, "bob", "carol")
        await remove(channel, account="bob")
        await remove(channel, account="bob")
    assert [version for version, _ in channel.keys("carol")] == [0, 1]


async def test_a_recreate_writes_who_is_missing_and_sends_the_current_key_to_those_named(channel: Rig) -> None:
    async with channel.worker():
        await create(channel, "bob", "dave")
        await remove(channel, account="bob")
        since = len(channel.received)
        answer = await create(channel, "bob", "carol", timestamp=LATER)
    assert answer["status"] == "ok", answer
    members = await channel.members("r1")
    assert set(members) == {"alice", "bob", "carol", "dave"}
    assert (members["alice"]["roles"], members["alice"]["joinedAt"]) == (["owner"], AT_DATE)
    assert (members["bob"]["roles"], members["bob"]["joinedAt"]) == (["member"], LATER_DATE)
    room = await channel.room("r1")
    assert (room["userCount"], room["createdAt"]) == (4, AT_DATE)
    assert room["encKey"]["ver"] == 1, "a re-create rotates nothing"
    sent = subjects(channel, since)
    assert {subject for subject in sent if subject.endswith(".room.key")} == {key("alice"), key("bob"), key("carol")}
    assert {subject for subject in sent if subject.endswith(".update")} == {update("bob"), update("carol")}
    assert "chat.room.r1.event.member" not in sent, "a create does not tell the room"
    assert sent.index(update("bob")) < sent.index(key("bob"))
    assert channel.keys("carol") == [(1, room["encKey"]["priv"])]


@pytest.mark.parametrize("first", ["channel", "dm"])
async def test_a_create_of_another_type_under_the_same_id_is_a_conflict(channel: Rig, first: str) -> None:
    one_to_one = {"name": "", "users": ["bob"]}
    async with channel.worker():
        await create(channel, "bob", **({} if first == "channel" else one_to_one))
        before = await channel.room("r1")
        answer = await create(channel, "bob", **({} if first == "dm" else one_to_one))
    assert (answer["status"], answer["code"], answer["reason"]) == ("error", "conflict", "room_exists")
    assert await channel.room("r1") == before


async def test_a_create_of_another_sites_room_is_a_conflict(channel: Rig) -> None:
    await channel.db.rooms.insert_one({"_id": "r1", "type": "channel", "siteId": "elsewhere", "name": "general"})
    async with channel.worker():
        answer = await create(channel, "bob")
    assert (answer["code"], answer["reason"]) == ("conflict", "room_exists")
    assert await channel.members("r1") == {}


async def test_resolved_users_and_orgs_stand_for_users_and_orgs(channel: Rig) -> None:
    await channel.db.users.update_one({"account": "carol"}, {"$set": {"sectId": "s1"}})
    async with channel.worker():
        await create(channel, "dave", orgs=["nobodys"], resolvedUsers=["bob"], resolvedOrgs=["s1"])
    assert set(await channel.members("r1")) == {"alice", "bob", "carol"}


async def test_null_and_absent_arrays_are_empty(channel: Rig) -> None:
    nothing = {"users": None, "orgs": None, "channels": None, "resolvedUsers": None, "resolvedOrgs": None}
    async with channel.worker():
        answer = await create(channel, **nothing)
        assert answer["status"] == "ok", answer
        added = await channel.ask("member.add", {"roomId": "r1", "users": ["bob"], "requesterAccount": "alice"})
        again = await add(channel, **{**nothing, "history": None})
        gone = await remove(channel, account="bob", accounts=None, orgId=None, roomType=None)
    assert [added["status"], again["status"], gone["status"]] == ["ok"] * 3
    assert set(await channel.members("r1")) == {"alice"}


@pytest.mark.parametrize("timestamp", [0, None, "absent"])
async def test_a_timestamp_of_zero_null_or_absent_is_the_streams_time(channel: Rig, timestamp: Any) -> None:
    body = {"roomId": "r1", "name": "general", "users": ["bob"], "requesterAccount": "alice"}
    if timestamp != "absent":
        body["timestamp"] = timestamp
    async with channel.worker():
        answer = await channel.ask("create", orjson.dumps(body))
    assert answer["status"] == "ok", answer
    message = await channel.nc.jetstream().get_last_msg(
        f"ROOMS_{channel.site}", f"chat.room.canonical.{channel.site}.create"
    )
    assert message.time is not None
    stream_time = message.time.replace(microsecond=message.time.microsecond // 1000 * 1000)
    room, members = await channel.room("r1"), await channel.members("r1")
    seen = {room["createdAt"], room["updatedAt"], members["alice"]["joinedAt"], members["bob"]["joinedAt"]}
    assert seen == {stream_time}


async def test_bots_named_for_a_channel_are_left_out(channel: Rig) -> None:
    await channel.users("helper.bot", "p_runner")
    async with channel.worker():
        await create(channel, "bob", "helper.bot", "unknown.bot", "p_runner")
        await add(channel, "carol", "helper.bot", "p_unknown")
    assert set(await channel.members("r1")) == {"alice", "bob", "carol"}
    room = await channel.room("r1")
    assert (room["userCount"], room["appCount"]) == (3, 0)


async def test_a_dotted_bot_in_a_room_gets_nothing_and_is_counted_as_an_app(channel: Rig) -> None:
    await channel.users("x.bot")
    async with channel.worker():
        await create(channel, "bob")
        u = {"_id": "u-x.bot", "account": "x.bot", "isBot": True}
        await channel.db.subscriptions.insert_one({"_id": "s-bot", "roomId": "r1", "u": u, "roles": ["member"]})
        await channel.db.rooms.update_one({"_id": "r1"}, {"$set": {"appCount": 1}})
        rotated = await channel.ask("key.rotate", {"roomId": "r1", "requester": "alice"})
        removed = await remove(channel, account="x.bot")
    assert removed["status"] == "ok", removed
    assert not [subject for subject in subjects(channel) if "bot" in subject], "published to a bot"
    assert rotated["status"] == "ok", rotated
    room = await channel.room("r1")
    assert (room["userCount"], room["appCount"], room["encKey"]["ver"]) == (2, 0, 2)


async def test_a_bots_request_has_its_effect_though_nobody_can_be_answered(channel: Rig) -> None:
    await channel.users("x.bot")
    async with channel.worker():
        await create(channel, "bob")
        await channel.publish("key.rotate", {"roomId": "r1", "requester": "x.bot"})
        await channel.until(lambda: len(channel.keys("bob")) == 2, "the key that a bot asked for")
        await add(channel, "bob")
    assert not [subject for subject in subjects(channel) if "x.bot" in subject]


async def test_the_last_member_can_leave_and_the_room_be_filled_again(channel: Rig) -> None:
    async with channel.worker():
        await create(channel)
        await remove(channel, account="alice")
        assert await channel.members("r1") == {}
        assert (await channel.room("r1"))["userCount"] == 0
        answer = await add(channel, "bob")
    assert answer["status"] == "ok", answer
    room = await channel.room("r1")
    assert channel.keys("bob") == [(room["encKey"]["ver"], room["encKey"]["priv"])]
    assert channel.keys("alice") == [(0, channel.keys("alice")[0][1])], "who left got a newer key"


async def test_the_indexes_have_mongodbs_default_names(
    nats_url: str, mongo_uri: str, new_database: str, site: str
) -> None:
    async with rig(nats_url, mongo_uri, new_database, site) as made:
        await made.users(*EVERYBODY)
        async with made.worker():
            await create(made, "bob")
        indexes = {
            collection: await made.db[collection].index_information()
            for collection in ("subscriptions", "room_members", "users")
        }
    unique = indexes["subscriptions"]["roomId_1_u.account_1"]
    assert (unique["unique"], unique["key"]) == (True, [("roomId", 1), ("u.account", 1)])
    unique = indexes["room_members"]["rid_1_member.type_1_member.id_1"]
    assert (unique["unique"], unique["key"]) == (True, [("rid", 1), ("member.type", 1), ("member.id", 1)])
    assert indexes["users"]["account_1"]["key"] == [("account", 1)]
