"""Memberships and their reasons belong to an account, whatever documents stand for them."""

import pytest

from store.reads.snapshot import load_batch
from store.setup.indexes import ensure_indexes
from tests.contract.stores import Store, add, apply_batch, created, event, remove, room


async def duplicate(store: Store, account: str, room_id: str = "r1", **fields: object) -> None:
    """Store a membership again, without the unique index that prevents it."""
    names = [name for name in await store.database["subscriptions"].index_information() if name.startswith("roomId")]
    for name in names:
        await store.database["subscriptions"].drop_index(name)
    document = {"roomId": room_id, "u": {"_id": f"u-{account}", "account": account}, "roles": ["member"], **fields}
    await store.database["subscriptions"].insert_one(document)


async def holders(store: Store, room_id: str = "r1") -> list[str]:
    found = await store.database.find("subscriptions", {"roomId": room_id}, {"u.account": 1})
    return sorted(item["u"]["account"] for item in found)


async def test_every_copy_of_a_membership_goes_with_it(store: Store) -> None:
    lease, position = await created(store, "bob", "carol")
    for _ in range(3):
        await duplicate(store, "bob")
    await duplicate(store, "bob", room_id="r2")
    applied = await apply_batch(store, lease, position, [remove(2, "r1", "bob")])
    assert await holders(store) == ["alice", "carol"]
    assert await holders(store, "r2") == ["bob"]
    assert (await room(store))["userCount"] == 2
    assert applied.decision.changes[0].left == ("bob",)


async def test_account_that_returns_in_its_batch_has_one_membership(store: Store) -> None:
    lease, position = await created(store, "bob", "carol")
    await duplicate(store, "bob")
    await apply_batch(store, lease, position, [remove(2, "r1", "bob"), add(3, "r1", "bob")])
    assert await holders(store) == ["alice", "bob", "carol"]


async def test_owner_of_two_memberships_becomes_a_member_in_both(store: Store) -> None:
    await store.people("dan", deptId="d1")
    lease, position = await created(store, "carol")
    await duplicate(store, "dan", roles=["member"])
    await duplicate(store, "dan", roles=["owner"])
    applied = await apply_batch(store, lease, position, [add(2, "r1", orgs=["d1"])])
    await apply_batch(store, lease, applied.position, [remove(3, "r1", "dan")])
    found = await store.database.find("subscriptions", {"u.account": "dan"}, {"roles": 1})
    assert [item["roles"] for item in found] == [["member"]] * 2


async def test_membership_of_any_id_goes(store: Store) -> None:
    ids: list[object] = [5, 5.5, {"a": [1]}, b"x", True, None, float("nan")]
    lease, position = await created(store, "carol")
    await store.people(*(f"p{number}" for number in range(len(ids))))
    for number, id_ in enumerate(ids):
        await store.members("r1", f"p{number}")
        document = await store.database["subscriptions"].find_one_and_delete({"u.account": f"p{number}"})
        await store.database["subscriptions"].insert_one({**document, "_id": id_})
    events = [remove(2 + number, "r1", f"p{number}") for number in range(len(ids))]
    await apply_batch(store, lease, position, events)
    assert await holders(store) == ["alice", "carol"]


@pytest.mark.parametrize("old", [False, True], ids=["with accounts", "without accounts"])
async def test_reasons_are_found_through_indexes(store: Store, old: bool) -> None:
    await store.people("dan", deptId="d1")
    lease, position = await created(store, "bob", "carol")
    await apply_batch(store, lease, position, [add(2, "r1", orgs=["d1"])])
    if old:
        await store.database["room_members"].update_many({}, {"$unset": {"member.account": ""}})
    await ensure_indexes(store.database)
    clauses = [
        {"rid": "r1", "member.account": {"$in": ["bob"]}},
        {"rid": "r1", "member.type": "individual", "member.id": {"$in": ["u-bob"]}},
    ]
    explain = {"explain": {"find": "room_members", "filter": {"$or": clauses}}, "verbosity": "executionStats"}
    plan = await store.database.db.command(explain)
    assert plan["executionStats"]["totalDocsExamined"] == 1, plan
    found = await load_batch(store.database, [remove(3, "r1", "bob")], lease.session, page=16_384)
    assert {account: len(rows) for account, rows in found.individuals["r1"].items()} == {"alice": 1, "bob": 1}


async def test_removed_org_leaves_no_copy_of_its_row(store: Store) -> None:
    await store.people("dan", deptId="d1")
    lease, position = await created(store, "bob", "carol")
    applied = await apply_batch(store, lease, position, [add(2, "r1", orgs=["d1"])])
    await store.database["room_members"].drop_index("rid_1_member.type_1_member.id_1")
    row = await store.database["room_members"].find_one({"member.type": "org"})
    await store.database["room_members"].insert_one({**row, "_id": "x"})
    leave = event(3, "member.remove", roomId="r1", requester="alice", orgId="d1")
    await apply_batch(store, lease, applied.position, [leave])
    assert await store.database.find("room_members", {}, {}) == []
