"""What the worker requires of MongoDB, tried before it is ready: a primary, transactions, permissions, new commands."""

from typing import Any, Final

from pymongo.errors import OperationFailure

from roomkeys.errors import DatabaseError
from store.database import Database
from store.errors import translated
from store.leases.lease import CURSORS
from store.reads.key_lookups import rooms_pipeline
from store.setup.indexes import ensure_indexes
from store.setup.permissions import READS, READS_AND_WRITES, require_permissions
from store.transaction import Bulk, commit, update_one

_NO_REPLICA_SET: Final = (
    "MongoDB is not a replica set, so transactions are unavailable: "
    "start mongod with --replSet rs0 and run rs.initiate() in mongosh; one node is enough"
)
_TOO_OLD: Final = (
    "MongoDB or its feature compatibility version is too old: use MongoDB 6.0 or later, and run "
    'db.adminCommand({setFeatureCompatibilityVersion: "6.0"}) in mongosh'
)

_UNKNOWN_OPERATOR: Final = frozenset({15_952, 40_234, 40_324, 224})
"""Unknown accumulator or stage, and QueryFeatureNotAllowed: the feature compatibility version is too old."""


async def prepare_database(database: Database, *, writes: bool = True) -> list[str]:
    """Require what the worker needs, and create what is missing; without `writes`, what the key service needs.

    Return warnings for the operator. Raise `DatabaseError`, with what is wrong and how to fix it, until everything
    is right.
    """
    with translated():
        hello = await database.client.admin.command("hello")
    problem = server_problem(hello) if writes else None
    if problem is not None:
        raise DatabaseError(problem)
    await require_permissions(database, READS_AND_WRITES if writes else READS)
    warnings = await ensure_indexes(database)
    await _require_new_commands(database)
    if writes:
        await require_transactions(database)
    return warnings


def server_problem(hello: dict[str, Any]) -> str | None:
    """Return why the server that answered `hello` cannot be used; None if it is a primary of a set, or a mongos."""
    if hello.get("msg") == "isdbgrid":
        return None
    if "setName" not in hello:
        return _NO_REPLICA_SET
    if not hello.get("isWritablePrimary"):
        return f"{hello.get('me')} is not the primary: name the replica set in MONGO_URI (replicaSet=…), not one member"
    return None


async def _require_new_commands(database: Database) -> None:
    """Run the query with the newest operator, for an account that does not exist."""
    pipeline = rooms_pipeline([""], "", 1)
    with translated():
        try:
            await database.db.command("aggregate", "subscriptions", pipeline=pipeline, cursor={})
        except OperationFailure as error:
            if error.code in _UNKNOWN_OPERATOR:
                raise DatabaseError(_TOO_OLD) from None
            raise


async def require_transactions(database: Database) -> None:
    """Commit a transaction that updates a document that does not exist, so that nothing is written.

    Raise `DatabaseError` if that fails.
    """
    session = await database.start_session()
    try:
        await commit(database, session, [Bulk(CURSORS, [update_one({"_id": ""}, {"$inc": {"writes": 1}})])])
    except DatabaseError as error:
        advice = "transactions need a replica set, or a sharded cluster of replica sets, and the role readWrite"
        raise DatabaseError(f"a transaction failed with {error}: {advice}") from None
    finally:
        await session.end_session()
