"""The checks of MongoDB: connection, replica set, transactions, indexes, partitions and clock."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

from pymongo import DeleteMany, IndexModel
from pymongo.errors import OperationFailure, PyMongoError, ServerSelectionTimeoutError

from roomkeys.errors import TransientError
from store.database import Database
from store.indexes import INDEXES
from store.leases.lease import CURSORS, stored_partitions
from store.transaction import Bulk, commit
from worker.app import open_database
from worker.cli.check.result import CheckResult, failed, passed
from worker.settings import Settings
from worker.telemetry.logs import server_of

_SELECT_SECONDS: Final = 3.0
_CLOCK_SECONDS: Final = 5.0
"""The largest difference between two clocks that is all right."""

_AUTHENTICATION_FAILED: Final = 18
_UNAUTHORIZED: Final = 13
_LOGIN: Final = "set MONGO_USERNAME and MONGO_PASSWORD to valid credentials"


async def check_mongo(settings: Settings) -> AsyncIterator[CheckResult]:
    """Yield a result for each check; what depends on a failed check is left out."""
    database = open_database(settings.model_copy(update={"mongo_driver": "pymongo"}))
    server = server_of(settings.mongo_uri.get_secret_value())
    try:
        async with asyncio.timeout(_SELECT_SECONDS):
            hello = await database.client.admin.command("hello")
        yield passed("mongodb", f"connected to {server}")
        replica_set = check_replica_set(hello)
        yield replica_set
        if replica_set.ok:
            yield await _transactions(database)
        for collection, models in INDEXES.items():
            yield await _indexes(database, collection, models)
        yield await _partitions(database, settings)
        yield _clock(hello)
    except (TimeoutError, ServerSelectionTimeoutError):
        yield failed("mongodb", f"{server}: {_unreachable(database)}")
    except OperationFailure as error:
        yield failed("mongodb", _denied(error, settings))
    except TransientError as error:
        advice = f"check that this user may write to the database {settings.mongo_db}"
        yield failed("mongodb", f"failed with {error}: {advice}")
    except PyMongoError as error:  # its text may quote the value that caused it
        yield failed("mongodb", f"failed with {type(error).__name__}")
    finally:
        await database.close()


def _unreachable(database: Database) -> str:
    """Say why the driver could not select a server, from what it knows about the servers."""
    topology = database.client.topology_description
    servers = list(topology.server_descriptions().values())
    if not servers:
        name = topology.replica_set_name
        return f"not a member of the replica set {name}: set replicaSet in MONGO_URI to the name of its set"
    if any(server.server_type_name == "RSGhost" for server in servers):
        return "the replica set is not initialized: run rs.initiate() in mongosh"
    if all(server.server_type_name == "Unknown" for server in servers):
        names = ", ".join(f"{host}:{port}" for host, port in topology.server_descriptions())
        return f"no answer from {names}: start the server, or set MONGO_URI to its address"
    return "the replica set has no primary: run rs.status() in mongosh to find out why"


def _denied(error: OperationFailure, settings: Settings) -> str:
    if error.code == _AUTHENTICATION_FAILED:
        return f"authentication failed: {_LOGIN}"
    if error.code == _UNAUTHORIZED:
        return f"this user lacks permissions: grant readWrite on the database {settings.mongo_db}, or {_LOGIN}"
    return f"failed with {type(error).__name__} {error.code}"


def check_replica_set(hello: dict[str, Any]) -> CheckResult:
    """Return whether the server that answered `hello` has transactions and can be written to."""
    if hello.get("msg") == "isdbgrid":
        return passed("replica set", "a sharded cluster")
    if "setName" not in hello:
        problem = "MongoDB is not a replica set, so transactions are unavailable"
        fix = "start mongod with --replSet rs0 and run rs.initiate() in mongosh; one node is enough"
        return failed("replica set", f"{problem}: {fix}")
    if not hello.get("isWritablePrimary"):
        fix = "name the replica set in MONGO_URI (replicaSet=…), not one member"
        return failed("replica set", f"{hello.get('me')} is not the primary: {fix}")
    return passed("replica set", f"{hello['setName']}, primary {hello.get('me')}")


async def _transactions(database: Database) -> CheckResult:
    """Commit a transaction that deletes a document that does not exist, so that nothing is written."""
    session = await database.start_session()
    try:
        await commit(database, session, [Bulk(CURSORS, [DeleteMany({"_id": ""})])])
    except TransientError as error:
        advice = "transactions need a replica set and the role readWrite"
        return failed("transactions", f"failed with {error}: {advice}")
    finally:
        await session.end_session()
    return passed("transactions", "available")


async def _indexes(database: Database, collection: str, models: list[IndexModel]) -> CheckResult:
    part = f"index {collection}"
    present = await database[collection].index_information()
    wanted = {model.document["name"]: bool(model.document.get("unique")) for model in models}
    for name, unique in wanted.items():
        if name in present and bool(present[name].get("unique")) != unique:
            problem = "is not unique" if unique else "is unique and must not be"
            return failed(part, f"{name} {problem}: drop it, and the worker creates it again at its next start")
    missing = ", ".join(name for name in wanted if name not in present)
    return passed(part, f"the worker creates {missing} when it starts" if missing else "present")


async def _partitions(database: Database, settings: Settings) -> CheckResult:
    stored, given = await stored_partitions(database, settings.site_id), settings.partitions
    if stored is None:
        return passed("partitions", f"{given}, when {settings.site_id} starts for the first time")
    if stored != given:
        wanted = f"{stored}, as at the first start of {settings.site_id}"
        return failed("partitions", f"PARTITIONS must be {wanted}; it is {given}")
    return passed("partitions", f"{stored}, as stored")


def _clock(hello: dict[str, Any]) -> CheckResult:
    difference = (hello["localTime"].replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()
    if abs(difference) > _CLOCK_SECONDS:
        problem = f"MongoDB's clock differs from this machine's by {difference:+.1f} s"
        return failed("clock", f"{problem}, so keys expire at wrong times: synchronize both with NTP")
    return passed("clock", "clocks agree")
