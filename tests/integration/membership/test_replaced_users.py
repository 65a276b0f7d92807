"""Contract, section 1, orgs: the reasons for a membership belong to an account, whatever happens to its user document.

Another program may replace a user document: the account stays, and `_id`, section and department change.
"""

from typing import Any

import pytest

from tests.harness import events
from tests.harness.site import Rig

OLD_ROWS = pytest.mark.parametrize("old_rows", [False, True], ids=["rows with accounts", "rows without accounts"])
WAYS = pytest.mark.parametrize("limits", [{}, {"batch_accounts": 2}], ids=["whole", "in slices"])


@pytest.fixture
async def people(site_rig: Rig) -> Rig:
    """Know alice and carol of no org, bob and dan of department d1."""
    await site_rig.users("alice", "carol")
    await site_rig.users("bob", "dan", deptId="d1")
    return site_rig


async def replace(rig: Rig, id_: object, **fields: Any) -> None:
    """Replace bob's user document by one with another `_id`."""
    await rig.db.users.delete_many({"account": "bob"})
    await rig.db.users.insert_one({"_id": id_, "account": "bob", "siteId": rig.site, **fields})


async def forget_accounts(rig: Rig) -> None:
    """Make the rows as older programs wrote them: without the account."""
    await rig.db.room_members.update_many({}, {"$unset": {"member.account": ""}})


async def rows(rig: Rig) -> set[tuple[str, str]]:
    found = await rig.db.room_members.find({"rid": "r1"}).to_list(None)
    return {(row["member"]["type"], row["member"]["id"]) for row in found}


async def ask(rig: Rig, suffix: str, body: dict[str, Any]) -> None:
    answer = await rig.ask(suffix, body)
    assert answer["status"] == "ok", answer


async def require_excluded(rig: Rig, account: str) -> None:
    """Require that the account holds no membership, no row and none of the later keys."""
    assert account not in await rig.members("r1")
    assert [row for row in await rows(rig) if row[1].startswith(account) or row[1] == f"u-{account}"] == []
    before = rig.keys(account)
    await ask(rig, "key.rotate", events.rotate("r1"))
    assert rig.keys(account) == before
    assert (await rig.room("r1"))["encKey"]["ver"] == rig.keys("carol")[-1][0]


@OLD_ROWS
@WAYS
async def test_account_removed_after_its_user_was_replaced_leaves_with_its_org(
    people: Rig, limits: dict[str, int], old_rows: bool
) -> None:
    people.limit(**limits)
    async with people.worker(partitions=1):
        await ask(people, "create", events.create("r1", "bob", "carol", orgs=["d1"]))
        if old_rows:
            await forget_accounts(people)
        await replace(people, "bob-2", deptId="d1")
        await ask(people, "member.add", events.add("r1", "bob"))
        await ask(people, "member.remove", events.remove("r1", account="bob"))
        assert "bob" in await people.members("r1"), "the org still covers bob"
        await ask(people, "member.remove", events.remove("r1", orgId="d1"))
        await require_excluded(people, "bob")


@OLD_ROWS
@WAYS
@pytest.mark.parametrize("replacements", [["bob-2"], ["bob-2", "bob-3"]], ids=["once", "twice"])
async def test_account_removed_after_its_user_was_replaced_leaves_no_row(
    people: Rig, limits: dict[str, int], old_rows: bool, replacements: list[str]
) -> None:
    people.limit(**limits)
    async with people.worker(partitions=1):
        await ask(people, "create", events.create("r1", "bob", "carol", orgs=["d1"]))
        for id_ in replacements:
            if old_rows and id_ == "bob-2":
                await forget_accounts(people)
            await replace(people, id_)
            await ask(people, "member.add", events.add("r1", "bob"))
        await ask(people, "member.remove", events.remove("r1", account="bob"))
        await require_excluded(people, "bob")


async def test_rows_of_every_id_go_with_the_account(people: Rig) -> None:
    async with people.worker(partitions=1):
        await ask(people, "create", events.create("r1", "bob", "carol", orgs=["d1"]))
        for number in range(3):
            member = {"id": f"bob-{number}", "type": "individual", "account": "bob"}
            await people.db.room_members.insert_one({"_id": number, "rid": "r1", "member": member})
        await replace(people, "bob-9")
        await ask(people, "member.remove", events.remove("r1", account="bob"))
        await require_excluded(people, "bob")


@WAYS
async def test_account_named_before_its_user_was_replaced_outlives_the_org(people: Rig, limits: dict[str, int]) -> None:
    people.limit(**limits)
    async with people.worker(partitions=1):
        await ask(people, "create", events.create("r1", "bob", "carol", orgs=["d1"]))
        await replace(people, "bob-2", deptId="d1")
        await ask(people, "member.remove", events.remove("r1", orgId="d1"))
        assert set(await people.members("r1")) == {"alice", "bob", "carol"}


async def test_user_id_of_another_account_is_no_reason(people: Rig) -> None:
    """A user that was renamed keeps its `_id`: the row belongs to the account that it names."""
    async with people.worker(partitions=1):
        await ask(people, "create", events.create("r1", "carol", orgs=["d1"]))
        member = {"id": "u-bob", "type": "individual", "account": "bobby"}
        await people.db.room_members.insert_one({"_id": "x", "rid": "r1", "member": member})
        await ask(people, "member.remove", events.remove("r1", orgId="d1"))
        await require_excluded(people, "bob")


async def test_account_named_after_a_rename_has_the_row_of_the_user(people: Rig) -> None:
    async with people.worker(partitions=1):
        await ask(people, "create", events.create("r1", "carol", orgs=["d1"]))
        member = {"id": "u-bob", "type": "individual", "account": "bobby"}
        await people.db.room_members.insert_one({"_id": "x", "rid": "r1", "member": member})
        await ask(people, "member.add", events.add("r1", "bob"))
        await ask(people, "member.remove", events.remove("r1", orgId="d1"))
        assert "bob" in await people.members("r1")


@WAYS
async def test_row_from_before_the_first_org_is_no_reason(people: Rig, limits: dict[str, int]) -> None:
    """A room without orgs records no reasons: whatever is there has been left by another program."""
    people.limit(**limits)
    member = {"id": "u-bob", "type": "individual", "account": "bob"}
    async with people.worker(partitions=1):
        await ask(people, "create", events.create("r1", "carol"))
        await people.db.room_members.insert_one({"_id": "x", "rid": "r1", "member": member})
        await ask(people, "member.add", events.add("r1", orgs=["d1"]))
        await ask(people, "member.remove", events.remove("r1", orgId="d1"))
        await require_excluded(people, "bob")


async def test_org_left_from_before_the_create_is_no_reason(people: Rig) -> None:
    member = {"id": "d1", "type": "org"}
    await people.db.room_members.insert_one({"_id": "x", "rid": "r1", "member": member})
    async with people.worker(partitions=1):
        await ask(people, "create", events.create("r1", "bob", "carol"))
        await ask(people, "member.remove", events.remove("r1", account="bob"))
        await require_excluded(people, "bob")


@pytest.mark.parametrize("changed", [{"sectId": 7}, {"sectId": ["d1"]}, {"sectId": None, "deptId": {"d1": 1}}])
async def test_org_of_another_type_covers_nobody(people: Rig, changed: dict[str, Any]) -> None:
    async with people.worker(partitions=1):
        await ask(people, "create", events.create("r1", "bob", "carol", orgs=["7", "d1", "['d1']", "{'d1': 1}"]))
        await replace(people, "bob-2", **changed)
        await ask(people, "member.remove", events.remove("r1", account="bob"))
        await require_excluded(people, "bob")


async def test_second_document_of_a_user_hides_no_org(people: Rig) -> None:
    async with people.worker(partitions=1):
        await ask(people, "create", events.create("r1", "carol", orgs=["d1"]))
        await people.db.users.insert_one({"_id": "zz", "account": "bob"})
        await people.publish("member.add", events.add("r1", "bob"))
        await ask(people, "member.remove", events.remove("r1", account="bob"))
        await ask(people, "member.remove", events.remove("r1", orgId="d1"))
        await require_excluded(people, "bob")
