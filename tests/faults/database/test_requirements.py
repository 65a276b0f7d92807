"""A MongoDB that the worker cannot use: it is not ready and says why, and it goes on once the fault is removed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pymongo import AsyncMongoClient

from store.database import Database, connect
from store.setup.indexes import INDEXES, ensure_indexes
from store.setup.permissions import READS, READS_AND_WRITES, Actions
from store.setup.requirements import prepare_database
from tests.harness import events
from tests.harness.databases import NAME
from tests.harness.mongo_users import GuardedMongo, guarded_mongo
from tests.harness.readiness import starting_worker
from tests.harness.site import Rig, rig
from worker.local.mongo_replica_set import BRIEF
from worker.local.servers import MongoServer

FULL = {**READS_AND_WRITES, "": ("listCollections",)}
LISTS = {index.collection: ("listIndexes",) for index in INDEXES}


def with_lists(actions: Actions) -> dict[str, tuple[str, ...]]:
    """Add the right to list the indexes."""
    names = {*actions, *LISTS}
    return {name: (*actions.get(name, ()), *LISTS.get(name, ())) for name in names}


class StandaloneServer(MongoServer):
    """A MongoDB that is not a replica set."""

    def _prepare(self) -> list[str]:
        arguments = list(super()._prepare())
        at = arguments.index("--replSet")
        return arguments[:at] + arguments[at + 2 :]

    async def _answers(self) -> bool:
        try:
            async with AsyncMongoClient("127.0.0.1", self.port, **BRIEF) as client:
                await client.admin.command("ping")
        except OSError:
            return False
        return True


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[GuardedMongo]:
    async with guarded_mongo(tmp_path / "mongo") as mongo:
        yield mongo


@pytest.fixture
async def indexed(guarded: GuardedMongo) -> AsyncIterator[Database]:
    """Create the collections and indexes, as an operator does."""
    database = connect(guarded.uri(), NAME)
    await ensure_indexes(database)
    for collection in READS_AND_WRITES:
        await database[collection].insert_one({"_id": "so that it exists"})
        await database[collection].delete_one({"_id": "so that it exists"})
    yield database
    await database.close()


async def lives(made: Rig) -> None:
    """Play create, add and remove."""
    assert (await made.ask("create", events.create("r1", "bob")))["status"] == "ok"
    assert (await made.ask("member.add", events.add("r1", "carol")))["status"] == "ok"
    assert (await made.ask("member.remove", events.remove("r1", account="bob")))["status"] == "ok"
    assert made.keys("carol")[-1][0] == 1


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_standalone_server_is_refused_with_the_sentence_of_check(
    nats_url: str, tmp_path: Path, site: str, driver: str
) -> None:
    async with StandaloneServer(tmp_path / "mongo") as mongo:
        uri = f"mongodb://127.0.0.1:{mongo.port}/"
        async with rig(nats_url, uri, "chat", site) as made, starting_worker(made, mongo_driver=driver) as readiness:
            cause = await readiness.until_waiting_for("mongodb", "not a replica set")
            assert "run rs.initiate() in mongosh" in cause


@pytest.mark.parametrize(("command", "code"), [("commitTransaction", 263), ("update", 20)])
async def test_server_without_transactions_is_refused_until_it_has_them(
    nats_url: str, own_mongo: MongoServer, site: str, command: str, code: int
) -> None:
    """A mongos in front of shards without transactions answers like this."""
    async with rig(nats_url, own_mongo.uri, "chat", site) as made:
        point = {"failCommands": [command], "errorCode": code, "appName": "room-worker"}
        await made.db.client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=point)
        await made.users("alice", "bob", "carol")
        async with starting_worker(made) as readiness:
            cause = await readiness.until_waiting_for("mongodb", "a transaction failed")
            assert "transactions need a replica set" in cause
            await made.db.client.admin.command("configureFailPoint", "failCommand", mode="off")
            await readiness.until_ready()
            await lives(made)


@pytest.mark.parametrize("code", [224, 15_952])
async def test_server_that_is_too_old_is_refused_with_the_version_it_needs(
    nats_url: str, own_mongo: MongoServer, site: str, code: int
) -> None:
    async with rig(nats_url, own_mongo.uri, "chat", site) as made:
        point = {"failCommands": ["aggregate"], "errorCode": code, "appName": "room-worker"}
        await made.db.client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=point)
        async with starting_worker(made) as readiness:
            assert "setFeatureCompatibilityVersion" in await readiness.until_waiting_for("mongodb", "too old")


async def test_user_with_exactly_the_listed_permissions_is_enough(
    nats_url: str, guarded: GuardedMongo, indexed: Database, site: str
) -> None:
    assert indexed
    uri = await guarded.user("exact", NAME, with_lists(FULL))
    async with rig(nats_url, guarded.uri(), NAME, site) as made:
        await made.users("alice", "bob", "carol")
        async with starting_worker(made, mongo_uri=secret(made, uri)) as readiness:
            await readiness.until_ready()
            await lives(made)
        async with starting_worker(made, mongo_uri=secret(made, uri)):
            assert (await made.ask("key.rotate", events.rotate("r1")))["status"] == "ok"


def secret(made: Rig, uri: str) -> object:
    """Return an address as the settings hold it."""
    return type(made.settings.mongo_uri)(uri)


@pytest.mark.parametrize(
    ("collection", "action"),
    [
        ("rooms", "update"),
        ("subscriptions", "remove"),
        ("users", "find"),
        ("users", "listIndexes"),
        ("", "listCollections"),
    ],
)
async def test_missing_permission_is_named_and_the_worker_goes_on_once_it_is_granted(
    nats_url: str, guarded: GuardedMongo, indexed: Database, site: str, collection: str, action: str
) -> None:
    assert indexed
    allowed = {
        name: tuple(one for one in some if (name, one) != (collection, action))
        for name, some in with_lists(FULL).items()
    }
    uri = await guarded.user("less", NAME, allowed)
    async with rig(nats_url, guarded.uri(), NAME, site) as made:
        await made.users("alice", "bob", "carol")
        async with starting_worker(made, mongo_uri=secret(made, uri)) as readiness:
            where = f"{NAME}.{collection}".rstrip(".")
            cause = await readiness.until_waiting_for("mongodb", f"{action} on {where}")
            assert "grant" in cause
            await guarded.grant("less", NAME, collection, action)
            await readiness.until_ready()
            await lives(made)


async def test_missing_index_that_the_user_may_not_create_is_named(
    nats_url: str, guarded: GuardedMongo, indexed: Database, site: str
) -> None:
    await indexed["users"].drop_index("account_1")
    uri = await guarded.user("less", NAME, with_lists(FULL))
    async with (
        rig(nats_url, guarded.uri(), NAME, site) as made,
        starting_worker(made, mongo_uri=secret(made, uri)) as readiness,
    ):
        await readiness.until_waiting_for("mongodb", f"createIndex on {NAME}.users")
        await indexed["users"].create_index("account", unique=True, name="by_account")
        await readiness.until_ready()


async def test_key_service_alone_needs_no_permission_to_write(guarded: GuardedMongo, indexed: Database) -> None:
    assert indexed
    uri = await guarded.user("reader", NAME, with_lists({**READS, "": ("listCollections",)}))
    database = connect(uri, NAME)
    assert await prepare_database(database, writes=False) == []
    await database.close()
