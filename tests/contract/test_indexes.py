"""Collections and indexes: what is missing is created, what serves as well is accepted, and what is wrong is named."""

import asyncio
from collections.abc import Callable
from typing import Any, get_args

import pytest

from roomkeys.errors import DatabaseError
from store.database import Database, Driver, connect
from store.reads.key_lookups import rooms_pipeline
from store.reads.members import START, page_pipeline
from store.setup.indexes import INDEXES, Index, ensure_indexes, statement
from tests.contract.stores import Store

BY_NAME = {index.name: index for index in INDEXES}
MEMBERS, ROOMS_OF = BY_NAME["roomId_1_u.account_1"], BY_NAME["u.account_1_roomId_1"]
REASONS, ACCOUNT = BY_NAME["rid_1_member.type_1_member.id_1"], BY_NAME["account_1"]
CASELESS = {"locale": "en", "strength": 2}


async def names(database: Database, collection: str) -> set[str]:
    return set(await database[collection].index_information()) - {"_id_"}


async def without(database: Database, index: Index) -> None:
    await database[index.collection].drop_index(index.name)


@pytest.mark.parametrize("driver", get_args(Driver))
async def test_replicas_that_start_at_once_all_create_the_indexes(
    mongo_uri: str, new_database: str, driver: Driver
) -> None:
    over = connect(mongo_uri, new_database, driver)
    for _ in range(3):
        await over.client.drop_database(new_database)
        assert await asyncio.gather(*(ensure_indexes(over) for _ in range(8))) == [[]] * 8
    for index in INDEXES:
        assert index.name in await names(over, index.collection)
    await over.close()


async def test_indexes_that_are_there_are_only_listed(store: Store) -> None:
    store.commands.take()
    assert await ensure_indexes(store.database) == []
    assert {command.split()[0] for command in store.commands.take()} == {"listCollections", "listIndexes"}


@pytest.mark.parametrize(
    ("index", "keys", "options"),
    [
        (ACCOUNT, [("account", 1)], {"name": "account_idx"}),
        (ACCOUNT, [("account", 1)], {"unique": True}),
        (ACCOUNT, [("account", 1)], {"unique": True, "sparse": True, "name": "by_account"}),
        (ACCOUNT, [("account", -1)], {}),
        (ACCOUNT, [("account", 1), ("siteId", 1)], {}),
        (MEMBERS, [("roomId", 1), ("u.account", 1)], {"unique": True, "name": "members"}),
        (MEMBERS, [("roomId", -1), ("u.account", -1)], {"unique": True}),
        (ROOMS_OF, [("u.account", 1), ("roomId", 1), ("joinedAt", 1)], {}),
        (REASONS, [("rid", 1), ("member.type", 1), ("member.id", 1)], {"unique": True, "sparse": True, "name": "x"}),
    ],
)
async def test_index_that_serves_as_well_is_accepted(
    store: Store, index: Index, keys: list[tuple[str, Any]], options: dict[str, Any]
) -> None:
    await without(store.database, index)
    await store.database[index.collection].create_index(keys, **options)
    before = await names(store.database, index.collection)
    assert await ensure_indexes(store.database) == []
    assert await names(store.database, index.collection) == before


@pytest.mark.parametrize(
    "options",
    [
        {"partialFilterExpression": {"account": {"$gt": "m"}}},
        {"collation": CASELESS},
        {"hidden": True, "collation": CASELESS},
    ],
)
@pytest.mark.parametrize("name", ["account_1", "other"])
async def test_index_that_does_not_serve_is_left_and_another_one_is_created(
    store: Store, options: dict[str, Any], name: str
) -> None:
    users = store.database["users"]
    await without(store.database, ACCOUNT)
    await users.create_index([("account", 1)], name=name, **options)
    before = await names(store.database, "users")
    assert await ensure_indexes(store.database) == []
    (created,) = await names(store.database, "users") - before
    assert ACCOUNT.is_served_by((await users.index_information())[created])
    plan = await store.database.db.command("explain", {"find": "users", "filter": {"account": {"$in": ["a", "b"]}}})
    assert "IXSCAN" in str(plan), "the query uses the new index"


async def test_hidden_index_is_named_because_the_server_creates_no_second_one(store: Store) -> None:
    await without(store.database, ACCOUNT)
    await store.database["users"].create_index([("account", 1)], hidden=True)
    with pytest.raises(DatabaseError, match="users is missing and cannot be created"):
        await ensure_indexes(store.database)


async def test_unique_index_in_the_other_order_guards_against_duplicates(store: Store) -> None:
    for index in (MEMBERS, ROOMS_OF):
        await without(store.database, index)
        await store.database["subscriptions"].create_index(
            [(name, 1) for name in index.fields], unique=not index.unique
        )
    assert await ensure_indexes(store.database) == []


async def test_index_that_is_not_unique_is_a_warning_with_a_remedy(store: Store) -> None:
    await without(store.database, MEMBERS)
    await store.database["subscriptions"].create_index([("roomId", 1), ("u.account", 1)])
    (warning,) = await ensure_indexes(store.database)
    assert warning == (
        "subscriptions has no unique index on (roomId, u.account): run db.subscriptions.createIndex("
        '{"roomId": 1, "u.account": 1}, {unique: true, name: "roomId_1_u.account_1_unique", '
        'collation: {locale: "simple"}}) in mongosh'
    )


async def test_duplicates_are_named_and_reads_still_have_an_index(store: Store) -> None:
    await without(store.database, MEMBERS)
    await store.members("r1", "bob", "carol")
    await store.members("r1", "bob")
    (warning,) = await ensure_indexes(store.database)
    assert "subscriptions has several documents with roomId 'r1', u.account 'bob'" in warning
    assert "delete all but one of them" in warning
    assert MEMBERS.name in await names(store.database, "subscriptions")
    (again,) = await ensure_indexes(store.database)
    assert "several documents with roomId 'r1', u.account 'bob'" in again
    assert "roomId_1_u.account_1_unique" in again, "the name is free"


async def test_following_the_advice_ends_the_warning(store: Store) -> None:
    await test_duplicates_are_named_and_reads_still_have_an_index(store)
    await store.database["subscriptions"].delete_one({"roomId": "r1", "u.account": "bob"})
    unique = {"unique": True, "name": f"{MEMBERS.name}_unique", "collation": {"locale": "simple"}}
    await store.database["subscriptions"].create_index([(field, 1) for field in MEMBERS.fields], **unique)
    assert await ensure_indexes(store.database) == []


async def test_duplicate_of_odd_values_is_shown_in_a_bounded_text(store: Store) -> None:
    await without(store.database, REASONS)
    odd = {"rid": {"a": "x" * 1_000}, "member": [{"type": None}]}
    await store.database["room_members"].insert_many([{**odd}, {**odd}])
    (warning,) = await ensure_indexes(store.database)
    assert "room_members has several documents" in warning
    assert len(warning) < 600


@pytest.mark.parametrize(
    ("collection", "pipeline"),
    [("subscriptions", page_pipeline(["r1"], START, 10)), ("subscriptions", rooms_pipeline(["bob"], "", 10))],
)
@pytest.mark.parametrize("shape", [lambda index: [(field, -1) for field in index.fields], None])
async def test_accepted_indexes_are_used_by_the_queries(
    store: Store, collection: str, pipeline: list[Any], shape: Callable[[Index], list[tuple[str, int]]] | None
) -> None:
    """Neither the order nor the sparseness of an accepted index makes a query read a whole collection."""
    for index in (MEMBERS, ROOMS_OF):
        await without(store.database, index)
        keys = shape(index) if shape else [(field, 1) for field in index.fields]
        await store.database[collection].create_index(keys, sparse=shape is None, unique=index.unique)
    assert await ensure_indexes(store.database) == []
    command = {"aggregate": collection, "pipeline": pipeline, "cursor": {}}
    plan = str(await store.database.db.command("explain", command))
    assert "IXSCAN" in plan
    assert "COLLSCAN" not in plan
    assert "'SORT'" not in plan


def test_statement_quotes_fields_and_names_options() -> None:
    index = Index("rooms", ("a.b",), sparse=True)
    assert statement(index) == (
        'db.rooms.createIndex({"a.b": 1}, {sparse: true, name: "a.b_1", collation: {locale: "simple"}})'
    )
