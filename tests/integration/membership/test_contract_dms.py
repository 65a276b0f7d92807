"""Contract, sections 1, 3 and 5, for dms and botDMs."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from tests.harness.site import Received, Rig

AT_DATE = datetime(2025, 5, 11, 21, 46, 40, tzinfo=UTC)
FLAGS: dict[str, Any] = dict.fromkeys(
    ("hasMention", "alert", "muted", "favorite", "hasGroupMention", "hasUnread"), False
)


async def person(rig: Rig, account: str, user_id: str, **fields: Any) -> None:
    await rig.db.users.insert_one({"_id": user_id, "account": account, "siteId": rig.site, **fields})


async def open_with(rig: Rig, other: str, requester: str = "alice", room_id: str = "d1") -> dict[str, Any]:
    body = {"roomId": room_id, "name": "", "users": [other], "orgs": [], "channels": []}
    return await rig.ask("create", {**body, "requesterId": "ignored", "requesterAccount": requester})


def updates(rig: Rig, account: str) -> list[Received]:
    return [item for item in rig.received if item.subject == f"chat.user.{account}.event.subscription.update"]


async def test_a_dm_is_the_documents_of_the_contract(site_rig: Rig) -> None:
    # Sorted by uid, alice's pair comes second; sorted by account it would come first.
    await person(site_rig, "alice", "u2")
    await person(site_rig, "bob", "u1")
    async with site_rig.worker():
        answer = await open_with(site_rig, "bob")
    assert (answer["status"], answer["operation"]) == ("ok", "room.create"), answer
    assert await site_rig.room("d1") == {
        "_id": "d1",
        "name": "",
        "type": "dm",
        "siteId": site_rig.site,
        "userCount": 2,
        "appCount": 0,
        "lastMsgId": "",
        "createdAt": AT_DATE,
        "updatedAt": AT_DATE,
        "uids": ["u1", "u2"],
        "accounts": ["bob", "alice"],
    }
    members = await site_rig.members("d1")
    assert set(members) == {"alice", "bob"}
    for account, user_id, other in (("alice", "u2", "bob"), ("bob", "u1", "alice")):
        document = members[account]
        document.pop("_id")
        assert document == {
            "u": {"_id": user_id, "account": account, "isBot": False},
            "roomId": "d1",
            "siteId": site_rig.site,
            "roles": None,
            "name": other,
            "roomType": "dm",
            "joinedAt": AT_DATE,
            **FLAGS,
        }


async def test_a_dm_has_no_key_and_sends_none(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob")
    async with site_rig.worker():
        await open_with(site_rig, "bob")
    assert not [item.subject for item in site_rig.received if item.subject.endswith(".room.key")]
    assert not {"encKey", "keyRotation"} & set(await site_rig.room("d1"))


async def test_a_dm_tells_both_and_only_both(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob")
    async with site_rig.worker():
        answer = await open_with(site_rig, "bob")
    *notices, result = [item.subject for item in site_rig.received]
    assert sorted(notices) == [f"chat.user.{account}.event.subscription.update" for account in ("alice", "bob")]
    assert result == f"chat.user.alice.response.{answer['requestId']}"
    (seen,) = updates(site_rig, "alice")
    subscription_id = (await site_rig.members("d1"))["alice"]["_id"]
    assert orjson.dumps(seen.body) == orjson.dumps(
        {
            "userId": "u-alice",
            "subscription": {
                "id": subscription_id,
                "u": {"id": "u-alice", "account": "alice", "isBot": False},
                "roomId": "d1",
                "siteId": site_rig.site,
                "roles": None,
                "name": "bob",
                "roomType": "dm",
                "joinedAt": "2025-05-11T21:46:40Z",
                **FLAGS,
            },
            "action": "added",
            "roomName": "bob",
            "timestamp": seen.body["timestamp"],
        }
    )


NAMES: dict[str, dict[str, Any]] = {
    "Bob Miller \u7c73\u52d2": {"engName": "Bob Miller", "chineseName": "\u7c73\u52d2"},
    "Tim \u7c73": {"engName": " Tim ", "chineseName": " \u7c73 "},
    "Bob": {"engName": "Bob", "chineseName": "Bob"},
    "Rob": {"engName": "Rob", "chineseName": ""},
    "\u7c73\u52d2": {"engName": "", "chineseName": "\u7c73\u52d2"},
    "other5": {"engName": " ", "chineseName": None},
    "other6": {},
}


async def test_a_dms_room_name_is_what_the_other_is_called(site_rig: Rig) -> None:
    await site_rig.users("alice")
    async with site_rig.worker():
        for number, names in enumerate(NAMES.values()):
            await site_rig.users(f"other{number}", **names)
            await open_with(site_rig, f"other{number}", room_id=f"d{number}")
    seen = [(item.body["roomName"], item.body["subscription"]["name"]) for item in updates(site_rig, "alice")]
    assert seen == [(title, f"other{number}") for number, title in enumerate(NAMES)], "the name stays the account"


@pytest.mark.parametrize("bot", ["helper.bot", "p_helper"])
async def test_a_bot_dm_subscribes_the_human_only(site_rig: Rig, bot: str) -> None:
    await person(site_rig, "alice", "u9", engName="Alice", chineseName="艾")
    await person(site_rig, bot, "u1")
    await site_rig.db.apps.insert_one({"_id": "app1", "name": "Little Helper", "assistant": {"name": bot}})
    await site_rig.db.apps.insert_one({"_id": "app2", "name": bot, "assistant": {"name": "another.bot"}})
    async with site_rig.worker():
        await open_with(site_rig, bot)
    room = await site_rig.room("d1")
    assert {field: room[field] for field in ("name", "type", "uids", "accounts", "userCount", "appCount")} == {
        "name": "",
        "type": "botDM",
        "uids": ["u1", "u9"],
        "accounts": [bot, "alice"],
        "userCount": 1,
        "appCount": 1,
    }
    members = await site_rig.members("d1")
    human, app = members["alice"], members[bot]
    assert (human["isSubscribed"], human["name"], human["roles"], human["roomType"]) == (True, bot, None, "botDM")
    assert ("isSubscribed" in app, app["name"], app["roles"], app["u"]["isBot"]) == (False, "alice", None, True)
    (seen,) = updates(site_rig, "alice")
    assert seen.body["roomName"] == "Little Helper"
    fields = list(seen.body["subscription"])
    assert fields[fields.index("roomType") :][:3] == ["roomType", "isSubscribed", "joinedAt"]
    assert "encKey" not in room
    told = updates(site_rig, bot)
    if bot.endswith(".bot"):
        assert not [item.subject for item in site_rig.received if bot in item.subject], "published to a dotted bot"
    else:
        assert "isSubscribed" not in told[0].body["subscription"]
        assert told[0].body["roomName"] == "Alice 艾"


async def test_a_bot_without_an_app_is_called_by_its_account(site_rig: Rig) -> None:
    await site_rig.users("alice", "helper.bot", engName="Not used")
    async with site_rig.worker():
        await open_with(site_rig, "helper.bot")
    (seen,) = updates(site_rig, "alice")
    assert seen.body["roomName"] == "helper.bot"


KINDS: list[tuple[dict[str, Any], str]] = [
    ({}, "dm"),
    ({"name": "x"}, "channel"),
    ({"orgs": ["s1"]}, "channel"),
    ({"channels": [{"roomId": "r9", "siteId": "s"}]}, "channel"),
    ({"users": ["bob", "carol"]}, "channel"),
    ({"users": []}, "channel"),
    ({"users": ["bob", "carol"], "resolvedUsers": ["bob"]}, "dm"),
    ({"name": None, "orgs": None, "channels": None}, "dm"),
]


async def test_the_kind_of_a_room_follows_from_what_was_asked_for(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob", "carol")
    async with site_rig.worker():
        for number, (fields, kind) in enumerate(KINDS):
            body = {"roomId": f"r{number}", "users": ["bob"], "requesterAccount": "alice", **fields}
            answer = await site_rig.ask("create", body)
            assert answer["status"] == "ok", (fields, answer)
            room = await site_rig.room(f"r{number}")
            channel = kind == "channel"
            assert (room["type"], "encKey" in room, "uids" in room) == (kind, channel, not channel), fields


async def test_a_dm_that_exists_is_opened_again_without_a_word(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob")
    async with site_rig.worker():
        await open_with(site_rig, "bob")
        before = await site_rig.room("d1"), await site_rig.members("d1")
        since = len(site_rig.received)
        answer = await open_with(site_rig, "alice", requester="bob")
    assert answer["status"] == "ok", answer
    assert [item.subject for item in site_rig.received[since:]] == [f"chat.user.bob.response.{answer['requestId']}"]
    assert (await site_rig.room("d1"), await site_rig.members("d1")) == before


async def test_a_dm_that_lost_a_membership_gets_it_back(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob")
    async with site_rig.worker():
        await open_with(site_rig, "bob")
        await site_rig.db.subscriptions.delete_one({"u.account": "bob"})
        answer = await open_with(site_rig, "bob")
    assert answer["status"] == "ok", answer
    members = await site_rig.members("d1")
    assert (members["bob"]["name"], members["bob"]["roles"]) == ("alice", None)
    assert len(updates(site_rig, "alice")) == 1


async def test_what_cannot_be_a_dm_is_refused_and_nothing_is_written(site_rig: Rig) -> None:
    await site_rig.users("alice")
    async with site_rig.worker():
        alone = await open_with(site_rig, "alice")
        nobody = await open_with(site_rig, "nobody")
        no_bot = await open_with(site_rig, "no.bot")
        no_platform = await open_with(site_rig, "p_nobody")
        unknown = await open_with(site_rig, "alice", requester="unknown")
    seen = [(answer["code"], answer["reason"]) for answer in (alone, nobody, no_bot, no_platform, unknown)]
    assert seen == [
        ("bad_request", "self_dm"),
        ("not_found", "user_not_found"),
        ("not_found", "bot_not_available"),
        ("not_found", "bot_not_available"),
        ("not_found", "user_not_found"),
    ]
    assert await site_rig.db.rooms.count_documents({}) == 0
    assert await site_rig.db.subscriptions.count_documents({}) == 0


@pytest.mark.parametrize("other", ["bob", "helper.bot"])
async def test_members_and_key_of_a_dm_cannot_change(site_rig: Rig, other: str) -> None:
    await site_rig.users("alice", "bob", "carol", "helper.bot")
    async with site_rig.worker():
        await open_with(site_rig, other)
        before = await site_rig.room("d1"), await site_rig.members("d1")
        answers = [
            await site_rig.ask("member.add", {"roomId": "d1", "users": ["carol"], "requesterAccount": "alice"}),
            await site_rig.ask("member.remove", {"roomId": "d1", "requester": "alice", "account": other}),
            await site_rig.ask("member.remove", {"roomId": "d1", "requester": "alice", "orgId": "s1"}),
            await site_rig.ask("key.rotate", {"roomId": "d1", "requester": "alice"}),
        ]
    for answer in answers:
        assert (answer["code"], answer["reason"]) == ("bad_request", "non_channel_operation"), answer
    operations = [answer["operation"] for answer in answers]
    assert operations == ["room.member.add", "room.member.remove", "room.member.remove_org", "room.key.rotate"]
    assert (await site_rig.room("d1"), await site_rig.members("d1")) == before
