"""What is right or amiss with MongoDB, as `room-worker check` sees it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

from pymongo import DeleteMany, IndexModel
from pymongo.errors import OperationFailure, PyMongoError, ServerSelectionTimeoutError

from roomkeys.errors import TransientError, Unexpected
from store.database import Database
from store.indexes import INDEXES
from store.leases.lease import CURSORS, stored_partitions
from store.transaction import Bulk, commit
from worker.app import open_database
from worker.cli.check.finding import CheckResult
from worker.settings import Settings
from worker.telemetry.logs import server_of

_SELECT_SECONDS: Final = 3.0
_CLOCK_SECONDS: Final = 5.0
_AUTHENTICATION_FAILED: Final = 18
_UNAUTHORIZED: Final = 13
_LOGIN: Final = "set MONGO_USERNAME and MONGO_PASSWORD to what the server accepts"


async def mongo_findings(settings: Settings) -> AsyncIterator[CheckResult]:
    """Yield a line about the connection, the replica set, transactions, indexes, partitions and the clock."""
    database = open_database(settings.model_copy(update={"mongo_driver": "pymongo"}))
    try:
        async for finding in _findings(database, settings):
            yield finding
    except OperationFailure as error:
        yield CheckResult("mongodb", ok=False, text=_refusal(error, settings))
    except (TransientError, Unexpected) as error:
        yield CheckResult(
            "mongodb", ok=False, text=f"failed with {error}: may this user write to {settings.mongo_db}?"
        )
    except PyMongoError as error:  # its text may quote what it failed on
        yield CheckResult("mongodb", ok=False, text=f"failed with {type(error).__name__}")
    finally:
        await database.close()


async def _findings(database: Database, settings: Settings) -> AsyncIterator[CheckResult]:
    where = server_of(settings.mongo_uri.get_secret_value())
    try:
        async with asyncio.timeout(_SELECT_SECONDS):
            hello = await database.client.admin.command("hello")
    except (TimeoutError, ServerSelectionTimeoutError):
        yield CheckResult("mongodb", ok=False, text=f"{where}: {_unreachable(database)}")
        return
    yield CheckResult("mongodb", ok=True, text=f"{where} answers")
    replica_set = _replica_set(hello)
    yield replica_set
    if replica_set.ok:
        yield await _transactions(database)
    for collection, models in INDEXES.items():
        yield await _indexes(database, collection, models)
    yield await _partitions(database, settings)
    yield _clock(hello)


def _unreachable(database: Database) -> str:
    """Say why no server could be chosen, by what the driver saw of them."""
    topology = database.client.topology_description
    servers = list(topology.server_descriptions().values())
    wanted = topology.replica_set_name
    if not servers:
        return f"it is no member of a replica set {wanted}: set replicaSet in MONGO_URI to the name of its set"
    if any(server.server_type_name == "RSGhost" for server in servers):
        return "its replica set has not been initiated: run rs.initiate() in mongosh"
    if all(server.server_type_name == "Unknown" for server in servers):
        names = ", ".join(f"{host}:{port}" for host, port in topology.server_descriptions())
        return f"nothing answers at {names}: start it, or set MONGO_URI to where it is"
    return "its replica set has no primary: see rs.status() in mongosh"


def _refusal(error: OperationFailure, settings: Settings) -> str:
    if error.code == _AUTHENTICATION_FAILED:
        return f"authentication failed: {_LOGIN}"
    if error.code == _UNAUTHORIZED:
        return f"this user may not do what the worker does: {_LOGIN}, or grant readWrite on {settings.mongo_db}"
    return f"failed with {type(error).__name__} {error.code}"


def _replica_set(hello: dict[str, Any]) -> CheckResult:
    if hello.get("msg") == "isdbgrid":
        return CheckResult("replica set", ok=True, text="a sharded cluster")
    if "setName" not in hello:
        mend = "start mongod with --replSet rs0 and run rs.initiate() in mongosh; one node is enough"
        return CheckResult("replica set", ok=False, text=f"MongoDB is none, so it has no transactions: {mend}")
    if not hello.get("isWritablePrimary"):
        mend = "name the set in MONGO_URI (replicaSet=…) instead of one member"
        return CheckResult("replica set", ok=False, text=f"{hello.get('me')} cannot be written to: {mend}")
    return CheckResult("replica set", ok=True, text=f"{hello['setName']}, primary {hello.get('me')}")


async def _transactions(database: Database) -> CheckResult:
    """Commit a transaction that deletes what does not exist; nothing is written."""
    session = await database.start_session()
    try:
        await commit(database, session, [Bulk(CURSORS, [DeleteMany({"_id": ""})])])
    except (TransientError, Unexpected) as error:
        return CheckResult(
            "transactions", ok=False, text=f"failed with {error}: a replica set is needed, and readWrite"
        )
    finally:
        await session.end_session()
    return CheckResult("transactions", ok=True, text="possible")


async def _indexes(database: Database, collection: str, models: list[IndexModel]) -> CheckResult:
    part = f"index {collection}"
    there = await database[collection].index_information()
    missing = []
    for model in models:
        wanted = model.document
        found = there.get(wanted["name"])
        if found is None:
            missing.append(wanted["name"])
        elif bool(found.get("unique")) != bool(wanted.get("unique")):
            mend = f"drop it, and the worker makes it anew {'' if wanted.get('unique') else 'not '}unique"
            return CheckResult(part, ok=False, text=f"{wanted['name']} is another index: {mend}")
    if missing:
        return CheckResult(part, ok=True, text=f"the worker makes {', '.join(missing)} when it starts")
    return CheckResult(part, ok=True, text="there")


async def _partitions(database: Database, settings: Settings) -> CheckResult:
    stored, given = await stored_partitions(database, settings.site_id), settings.partitions
    if stored is None:
        return CheckResult("partitions", ok=True, text=f"{settings.site_id} starts with {given}")
    if stored != given:
        text = f"PARTITIONS must be {stored}, with which {settings.site_id} was started; it is {given}"
        return CheckResult("partitions", ok=False, text=text)
    return CheckResult("partitions", ok=True, text=f"{stored}, as stored")


def _clock(hello: dict[str, Any]) -> CheckResult:
    difference = (hello["localTime"].replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()
    if abs(difference) > _CLOCK_SECONDS:
        text = f"MongoDB's is {difference:+.1f} s from this machine's: set both by NTP; keys would expire wrongly"
        return CheckResult("clock", ok=False, text=text)
    return CheckResult("clock", ok=True, text="that of MongoDB and this machine agree")
