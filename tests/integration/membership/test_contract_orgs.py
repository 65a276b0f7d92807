"""Contract, section 1, orgs: who is a member why, and what ends when an org or a person goes."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.harness.site import AT, Rig

AT_DATE = datetime(2025, 5, 11, 21, 46, 40, tzinfo=UTC)
LATER = AT + 90_001
LATER_DATE = datetime(2025, 5, 11, 21, 48, 10, 1000, tzinfo=UTC)
UUID7 = re.compile(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}")

Reasons = set[tuple[str, str]]


@pytest.fixture
async def people(site_rig: Rig) -> Rig:
    """Know alice and bob of no org, sam and sue of section s1, dan of department d1, both of both."""
    await site_rig.users("alice", "bob")
    await site_rig.users("sam", "sue", sectId="s1")
    await site_rig.users("dan", deptId="d1")
    await site_rig.users("both", sectId="s1", deptId="d1")
    await site_rig.users("s1.bot", "p_s1", sectId="s1")
    return site_rig


async def create(rig: Rig, **fields: Any) -> dict[str, Any]:
    body = {"roomId": "r1", "name": "general", "requesterAccount": "alice", **fields}
    return await rig.ask("create", body)


async def add(rig: Rig, **fields: Any) -> dict[str, Any]:
    return await rig.ask("member.add", {"roomId": "r1", "requesterAccount": "alice", **fields})


async def remove(rig: Rig, **fields: Any) -> dict[str, Any]:
    return await rig.ask("member.remove", {"roomId": "r1", "requester": "alice", **fields})


async def reasons(rig: Rig) -> Reasons:
    rows = await rig.db.room_members.find({"rid": "r1"}).to_list(None)
    return {(row["member"]["type"], row["member"]["id"]) for row in rows}


def individuals(*accounts: str) -> Reasons:
    return {("individual", f"u-{account}") for account in accounts}


async def test_an_org_stands_for_its_section_or_department_without_bots(people: Rig) -> None:
    async with people.worker():
        await create(people, users=["bob"], orgs=["s1", "d1"])
    assert set(await people.members("r1")) == {"alice", "bob", "sam", "sue", "dan", "both"}
    assert await reasons(people) == individuals("alice", "bob") | {("org", "s1"), ("org", "d1")}
    assert (await people.room("r1"))["userCount"] == 6
    assert people.keys("sam") == people.keys("alice") != []


async def test_the_rows_are_the_documents_of_the_contract(people: Rig) -> None:
    async with people.worker():
        await create(people, users=["bob"], orgs=["s1"])
    rows = {row["member"]["id"]: row for row in await people.db.room_members.find().to_list(None)}
    assert all(UUID7.fullmatch(row.pop("_id")) for row in rows.values())
    person = {"id": "u-bob", "type": "individual", "account": "bob"}
    assert rows["u-bob"] == {"rid": "r1", "ts": AT_DATE, "member": person}
    assert rows["s1"] == {"rid": "r1", "ts": AT_DATE, "member": {"id": "s1", "type": "org"}}


async def test_the_first_org_makes_an_individual_of_every_member_so_far(people: Rig) -> None:
    async with people.worker():
        await create(people, users=["bob", "sam"])
        assert await reasons(people) == set()
        await add(people, orgs=["s1"], timestamp=LATER)
    assert await reasons(people) == individuals("alice", "bob", "sam") | {("org", "s1")}
    row = await people.db.room_members.find_one({"member.id": "u-bob"})
    assert row["ts"] == LATER_DATE
    (notice,) = people.of("chat.room.r1.event.member")
    assert sorted(notice["accounts"]) == ["both", "sue"], "who was a member already did not join"
    assert [version for version, _ in people.keys("sam")] == [0], "who was a member already is sent no key"


async def test_a_second_org_backfills_nobody(people: Rig) -> None:
    async with people.worker():
        await create(people, users=["bob"], orgs=["s1"])
        await add(people, orgs=["d1"])
    assert await reasons(people) == individuals("alice", "bob") | {("org", "s1"), ("org", "d1")}
    assert "dan" in await people.members("r1")


async def test_an_org_alone_that_brings_nobody_still_tells_the_room(people: Rig) -> None:
    async with people.worker():
        await create(people, users=["sam", "sue", "both"])
        since = len(people.received)
        answer = await add(people, orgs=["s1"])
    assert answer["status"] == "ok", answer
    assert [item.subject for item in people.received[since:-1]] == ["chat.room.r1.event.member"]
    notice = people.received[since].body
    assert (notice["type"], notice["accounts"]) == ("member_added", [])


async def test_adding_somebody_whom_an_org_covers_writes_only_the_row(people: Rig) -> None:
    async with people.worker():
        await create(people, orgs=["s1"])
        before = await people.members("r1")
        since = len(people.received)
        answer = await add(people, users=["sam"])
    assert answer["status"] == "ok", answer
    assert [item.subject for item in people.received[since:] if ".response." not in item.subject] == []
    assert await people.members("r1") == before
    assert await reasons(people) == individuals("alice", "sam") | {("org", "s1")}


async def test_removing_somebody_whom_an_org_still_covers_deletes_only_the_row(people: Rig) -> None:
    async with people.worker():
        await create(people, users=["sam"], orgs=["s1"])
        before = await people.members("r1"), await people.room("r1")
        since = len(people.received)
        answer = await remove(people, account="sam")
    assert answer["status"] == "ok", answer
    assert [item.subject for item in people.received[since:] if ".response." not in item.subject] == []
    assert (await people.members("r1"), await people.room("r1")) == before, "no membership change, no rotation"
    assert await reasons(people) == individuals("alice") | {("org", "s1")}


async def test_an_owner_whom_an_org_still_covers_becomes_a_member(people: Rig) -> None:
    async with people.worker():
        await create(people, users=["bob"], orgs=["s1"], requesterAccount="sam")
        assert (await people.members("r1"))["sam"]["roles"] == ["owner"]
        await remove(people, requester="sam", account="sam")
    members = await people.members("r1")
    assert members["sam"]["roles"] == ["member"]
    assert await reasons(people) == individuals("bob") | {("org", "s1")}
    assert (await people.room("r1"))["encKey"]["ver"] == 0


async def test_removing_an_org_keeps_who_has_another_reason(people: Rig) -> None:
    async with people.worker():
        await create(people, users=["sam"], orgs=["s1", "d1"])
        since = len(people.received)
        answer = await remove(people, orgId="s1")
    assert (answer["status"], answer["operation"]) == ("ok", "room.member.remove_org"), answer
    assert set(await people.members("r1")) == {"alice", "sam", "dan", "both"}
    assert await reasons(people) == individuals("alice", "sam") | {("org", "d1")}
    sent = [item.subject for item in people.received[since:]]
    assert sent[:2] == ["chat.user.sue.event.subscription.update", "chat.room.r1.event.member"]
    notice = people.received[since + 1].body
    assert list(notice) == ["type", "roomId", "accounts", "siteId", "orgId", "timestamp"]
    assert (notice["type"], notice["accounts"], notice["orgId"]) == ("member_removed", ["sue"], "s1")
    assert (await people.room("r1"))["encKey"]["ver"] == 1
    assert [version for version, _ in people.keys("both")] == [0, 1]
    assert [version for version, _ in people.keys("sue")] == [0]


async def test_with_its_last_org_a_rooms_individual_rows_go_too(people: Rig) -> None:
    async with people.worker():
        await create(people, users=["bob"], orgs=["s1"])
        await remove(people, orgId="s1")
    assert await people.db.room_members.count_documents({}) == 0
    assert set(await people.members("r1")) == {"alice", "bob"}


async def test_an_org_that_is_no_reason_here_is_nothing_to_do(people: Rig) -> None:
    async with people.worker():
        await create(people, users=["sam", "dan"], orgs=["d1"])
        before = await people.members("r1"), await people.room("r1"), await reasons(people)
        answer = await remove(people, orgId="s1")
    assert answer["status"] == "ok", answer
    assert (await people.members("r1"), await people.room("r1"), await reasons(people)) == before


async def test_an_org_whose_people_all_stay_goes_without_a_rotation(people: Rig) -> None:
    async with people.worker():
        await create(people, users=["dan", "both"], orgs=["d1", "s1"])
        answer = await remove(people, orgId="d1")
    assert answer["status"] == "ok", answer
    assert await reasons(people) == individuals("alice", "dan", "both") | {("org", "s1")}
    assert (await people.room("r1"))["encKey"]["ver"] == 0
    assert people.of("chat.room.r1.event.member") == []


async def test_several_accounts_of_which_an_org_covers_one(people: Rig) -> None:
    async with people.worker():
        await create(people, users=["bob", "sam"], orgs=["s1"])
        await remove(people, accounts=["sam", "bob"])
    assert set(await people.members("r1")) == {"alice", "sam", "sue", "both"}
    assert await reasons(people) == individuals("alice") | {("org", "s1")}
    assert [notice["accounts"] for notice in people.of("chat.room.r1.event.member")] == [["bob"]]


async def test_who_left_a_room_with_orgs_leaves_no_row_and_may_come_back(people: Rig) -> None:
    async with people.worker():
        await create(people, users=["bob"], orgs=["s1"])
        await remove(people, account="bob")
        assert await reasons(people) == individuals("alice") | {("org", "s1")}
        await add(people, users=["bob"])
    assert await reasons(people) == individuals("alice", "bob") | {("org", "s1")}
    assert [version for version, _ in people.keys("bob")] == [0, 1]


async def test_a_user_record_without_an_account_does_not_spoil_its_org(
    people: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.harness.site.PATIENCE", 8.0)  # where it goes wrong the result never comes
    await people.db.users.insert_one({"_id": "u-none", "siteId": people.site, "sectId": "s1"})
    await people.db.users.insert_one({"_id": "u-null", "account": None, "siteId": people.site, "sectId": "s1"})
    async with people.worker():
        answer = await create(people, users=["bob"], orgs=["s1"])
    assert answer["status"] == "ok", answer
    assert people.keys("sue") == people.keys("alice") != []
