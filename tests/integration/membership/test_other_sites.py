"""Contract, section 1: a room belongs to the site in its document, and no other site changes its members or its key."""

import pytest

from tests.harness import events
from tests.harness.site import Rig

KEY = {"ver": 4, "priv": b"k" * 32}
CASES = [
    ("member.add", events.add("r1", "carol"), ("not_found", "room_not_found")),
    ("member.add", events.add("r1", orgs=["d1"]), ("not_found", "room_not_found")),
    ("member.remove", events.remove("r1", account="bob"), ("not_found", "room_not_found")),
    ("member.remove", events.remove("r1", orgId="d1"), ("not_found", "room_not_found")),
    ("key.rotate", events.rotate("r1"), ("not_found", "room_not_found")),
    ("create", events.create("r1", "carol"), ("conflict", "room_exists")),
]


@pytest.mark.parametrize("limits", [{}, {"batch_accounts": 1}], ids=["whole", "in slices"])
async def test_room_of_another_site_is_left_alone(site_rig: Rig, limits: dict[str, int]) -> None:
    site_rig.limit(**limits)
    await site_rig.users("alice", "bob", "carol")
    await site_rig.users("dan", "eve", deptId="d1")
    room = {"_id": "r1", "name": "general", "type": "channel", "siteId": "elsewhere", "userCount": 2, "appCount": 0}
    room |= {"encKey": KEY, "keyRotation": {"high": 4, "settled": 4, "current": KEY}}
    await site_rig.db.rooms.insert_one(room)
    for account in ("alice", "bob"):
        document = {"roomId": "r1", "u": {"_id": f"u-{account}", "account": account}, "roles": ["member"]}
        await site_rig.db.subscriptions.insert_one(document)
    before = await site_rig.room("r1"), await site_rig.members("r1")
    async with site_rig.worker(partitions=1):
        for suffix, body, expected in CASES:
            answer = await site_rig.ask(suffix, body)
            assert (answer["code"], answer["reason"]) == expected, (suffix, answer)
    assert (await site_rig.room("r1"), await site_rig.members("r1")) == before
    assert await site_rig.db.room_members.count_documents({}) == 0
    assert site_rig.keys("alice") == site_rig.keys("bob") == []


async def test_room_without_a_site_works(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob", "carol")
    async with site_rig.worker(partitions=1):
        await site_rig.ask("create", events.create("r1", "bob"))
        for value in (None, 7, "", ["elsewhere"]):
            await site_rig.db.rooms.update_one({"_id": "r1"}, {"$set": {"siteId": value}})
            answers = [await site_rig.ask("member.add", events.add("r1", "carol"))]
            answers.append(await site_rig.ask("member.remove", events.remove("r1", account="carol")))
            assert [answer["status"] for answer in answers] == ["ok", "ok"], answers
    assert len(site_rig.keys("bob")) == 5
