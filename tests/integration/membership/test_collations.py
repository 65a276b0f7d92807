"""Collections whose collation ignores case: the worker compares bytes, and room ids that count as one clash."""

from collections.abc import AsyncIterator

import pytest

from store.database import SIMPLE, connect
from store.setup.indexes import ensure_indexes
from tests.harness import events
from tests.harness.site import Rig, rig
from worker.cli.check.mongo import check_mongo

IGNORES_CASE = {"locale": "en", "strength": 2}
COLLECTIONS = ("rooms", "subscriptions", "room_members", "users", "apps")


@pytest.fixture
async def collated(nats_url: str, mongo_uri: str, new_database: str, site: str) -> AsyncIterator[Rig]:
    async with rig(nats_url, mongo_uri, new_database, site) as made:
        for collection in COLLECTIONS:
            await made.db.create_collection(collection, collation=IGNORES_CASE)
        await made.users("alice", "carol")
        for number, account in enumerate(("bob", "Bob", "BOB")):
            await made.db.users.insert_one({"_id": f"u{number}", "account": account})
        yield made


async def test_accounts_that_differ_in_case_are_different_members(collated: Rig) -> None:
    async with collated.worker(partitions=1):
        for suffix, body in [
            ("create", events.create("r1", "bob", "carol")),
            ("member.add", events.add("r1", "Bob")),
            ("member.add", events.add("r1", "BOB")),
            ("member.remove", events.remove("r1", account="Bob")),
            ("key.rotate", events.rotate("r1")),
        ]:
            answer = await collated.ask(suffix, body)
            assert answer["status"] == "ok", answer
    assert set(await collated.members("r1")) == {"alice", "bob", "BOB", "carol"}
    assert [version for version, _ in collated.keys("Bob")] == [0]
    assert [version for version, _ in collated.keys("bob")] == [0, 1, 2]
    assert (await collated.room("r1"))["userCount"] == 4


async def test_orgs_that_differ_in_case_are_different_orgs(collated: Rig) -> None:
    await collated.db.users.insert_one({"_id": "u-dan", "account": "dan", "deptId": "d1"})
    await collated.db.users.insert_one({"_id": "u-eve", "account": "eve", "deptId": "D1"})
    async with collated.worker(partitions=1):
        await collated.ask("create", events.create("r1", "carol", orgs=["D1", "d1"]))
        assert set(await collated.members("r1")) == {"alice", "carol", "dan", "eve"}
        answer = await collated.ask("member.remove", events.remove("r1", orgId="d1"))
        assert answer["status"] == "ok", answer
    assert set(await collated.members("r1")) == {"alice", "carol", "eve"}


async def test_room_whose_id_the_collection_takes_for_another_is_a_conflict(collated: Rig) -> None:
    async with collated.worker(partitions=1):
        assert (await collated.ask("create", events.create("r1", "bob")))["status"] == "ok"
        answer = await collated.ask("create", events.create("R1", "carol"))
        assert (answer["code"], answer["reason"]) == ("conflict", "room_exists")
        answer = await collated.ask("key.rotate", events.rotate("R1"))
        assert (answer["code"], answer["reason"]) == ("not_found", "room_not_found")
        assert (await collated.ask("key.rotate", events.rotate("r1")))["status"] == "ok"
        assert (await collated.ask("create", events.create("r2", "carol")))["status"] == "ok"


async def test_check_names_the_collections(collated: Rig) -> None:
    results = [result async for result in check_mongo(collated.settings)]
    warnings = [result for result in results if result.part == "collation"]
    assert len(warnings) == 4
    assert "users has the collation en" in str(warnings)


async def test_indexes_serve_queries_of_bytes(collated: Rig, mongo_uri: str) -> None:
    database = connect(mongo_uri, collated.db.name)
    try:
        warnings = await ensure_indexes(database)
        assert len(warnings) == 4, warnings
        await ensure_indexes(database)
        query = {"find": "subscriptions", "filter": {"roomId": "r1", "u.account": "bob"}, "collation": SIMPLE}
        plan = str(await collated.db.command({"explain": query, "verbosity": "queryPlanner"}))
        assert "IXSCAN" in plan
        assert "COLLSCAN" not in plan
    finally:
        await database.close()
