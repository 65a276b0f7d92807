"""The checks of MongoDB: connection, replica set, permissions, transactions, indexes, partitions and clock."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError, ServerSelectionTimeoutError

from roomkeys.errors import TransientError
from store.database import Database
from store.leases.lease import stored_partitions
from store.setup.indexes import INDEXES, Index, collations, existing_indexes, without_guard
from store.setup.permissions import READS_AND_WRITES, require_permissions
from store.setup.requirements import require_transactions, server_problem
from worker.app import open_database
from worker.cli.check.result import CheckResult, failed, passed, warned
from worker.settings import Settings
from worker.telemetry.logs import server_of

_SELECT_SECONDS: Final = 3.0
_CLOCK_SECONDS: Final = 5.0
"""The largest difference between two clocks that is all right."""

_SLOW_MS: Final = 100
"""MongoDB's own threshold: it logs slower commands, and few of the worker's are."""

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
        yield await _permissions(database)
        if replica_set.ok:
            yield await _transactions(database)
        for collection, indexes in groupby(INDEXES, lambda index: index.collection):
            yield await _indexes(database, collection, list(indexes))
        for warning in await collations(database):
            yield warned("collation", warning)
        yield await _partitions(database, settings)
        yield _clock(hello)
        yield await _users(database)
        yield await _profiling(database)
    except (TimeoutError, ServerSelectionTimeoutError):
        yield failed("mongodb", f"{server}: {_unreachable(database)}")
    except OperationFailure as error:
        yield failed("mongodb", _denied(error, settings))
    except TransientError as error:
        advice = f"check that this user may write to the database {settings.mongo_db}"
        yield failed("mongodb", f"failed with {error}: {advice}")
    except ConfigurationError:
        advice = "correct its options; with mongodb+srv, its name must have SRV records that can be resolved"
        yield failed("mongodb", f"MONGO_URI cannot be used: {advice}")
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
        return connection_problem(names, " ".join(str(server.error) for server in servers))
    return "the replica set has no primary: run rs.status() in mongosh to find out why"


def connection_problem(names: str, error: str) -> str:
    """Say why no server of these names could be reached, from the text of the driver's error; never quote it."""
    if any(sign in error for sign in ("getaddrinfo", "Name or service", "name resolution", "nodename")):
        return f"the name of {names} cannot be resolved: correct MONGO_URI, or the name servers of this machine"
    if "CERTIFICATE_VERIFY_FAILED" in error:
        return f"the certificate of {names} is not trusted: set tlsCAFile in MONGO_URI to that of its authority"
    if any(sign in error for sign in ("SSL", "TLS")):
        return f"{names} does not speak TLS: remove tls=true from MONGO_URI, or give the server a certificate"
    if any(sign in error for sign in ("connection closed", "Connection reset", "Invalid reply")):
        return f"{names} closes the connection: add tls=true to MONGO_URI if it needs TLS, or check that it is MongoDB"
    return f"no answer from {names}: start the server, or set MONGO_URI to its address"


def _denied(error: OperationFailure, settings: Settings) -> str:
    if error.code == _AUTHENTICATION_FAILED:
        return f"authentication failed: {_LOGIN}"
    if error.code == _UNAUTHORIZED:
        return f"this user lacks permissions: grant readWrite on the database {settings.mongo_db}, or {_LOGIN}"
    return f"failed with {type(error).__name__} {error.code}"


def check_replica_set(hello: dict[str, Any]) -> CheckResult:
    """Return whether the server that answered `hello` has transactions and can be written to."""
    problem = server_problem(hello)
    if problem is not None:
        return failed("replica set", problem)
    if "setName" not in hello:
        return passed("replica set", "a sharded cluster")
    return passed("replica set", f"{hello['setName']}, primary {hello.get('me')}")


async def _permissions(database: Database) -> CheckResult:
    try:
        await require_permissions(database, READS_AND_WRITES)
    except TransientError as error:
        return failed("mongodb permissions", str(error))
    return passed("mongodb permissions", "sufficient")


async def _transactions(database: Database) -> CheckResult:
    try:
        await require_transactions(database)
    except TransientError as error:
        return failed("transactions", str(error))
    return passed("transactions", "available")


async def _indexes(database: Database, collection: str, indexes: Sequence[Index]) -> CheckResult:
    part, present = f"index {collection}", await existing_indexes(database, collection)
    missing = [index for index in indexes if not any(map(index.is_served_by, present.values()))]
    for index in indexes:
        unguarded = await without_guard(database, index, present)
        if unguarded is not None and (unguarded.has_duplicates or index not in missing):
            return (failed if unguarded.has_duplicates else warned)(part, unguarded.text)
    names = ", ".join(index.name for index in missing)
    return passed(part, f"the worker creates {names} when it starts" if missing else "present")


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
        return warned("clock", f"{problem}, so timestamps of messages may be wrong: synchronize both with NTP")
    return passed("clock", "clocks agree")


async def _users(database: Database) -> CheckResult:
    if await database.find("users", {}, {"_id": 1}, limit=1):
        return passed("users", "there are some")
    return warned("users", "the collection is empty: events name users, and fail until they are in it")


async def _profiling(database: Database) -> CheckResult:
    """Return whether MongoDB keeps commands with the bytes of keys: in `system.profile`, or in its log."""
    try:
        profile = await database.db.command("profile", -1)
    except OperationFailure:
        return passed("profiling", "not known: this user may not ask for it")
    level, slow_ms = profile.get("was", 0), profile.get("slowms", _SLOW_MS)
    if level:
        fix = "run db.setProfilingLevel(0) in mongosh, and drop system.profile"
        return warned("profiling", f"level {level} stores commands, with the bytes of keys, in system.profile: {fix}")
    if slow_ms < _SLOW_MS:
        fix = f"run db.setProfilingLevel(0, {{slowms: {_SLOW_MS}}}) in mongosh, or set security.redactClientLogData"
        return warned("profiling", f"slowms {slow_ms} writes commands, with the bytes of keys, to the log: {fix}")
    return passed("profiling", "off")
