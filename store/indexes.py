"""Collections and indexes, made at start-up; what exists already is left alone. (contract.md, section 5)"""

from typing import Final

from pymongo import ASCENDING, IndexModel
from pymongo.errors import OperationFailure

from store.database import Database
from store.errors import translated
from store.leases.lease import CURSORS
from store.writes.outbox import OUTBOX

# The org indexes are this worker's own: without them an org's people are found by reading every user, and
# with the account in them they come in its order, page by page. So is the index that begins with a membership's
# account: without it an account's rooms are found by reading every membership.
INDEXES: Final = {
    "subscriptions": [
        IndexModel([("roomId", ASCENDING), ("u.account", ASCENDING)], unique=True),
        IndexModel([("u.account", ASCENDING), ("roomId", ASCENDING)]),
    ],
    "room_members": [
        IndexModel([("rid", ASCENDING), ("member.type", ASCENDING), ("member.id", ASCENDING)], unique=True)
    ],
    "users": [
        IndexModel("account"),
        IndexModel([("sectId", ASCENDING), ("account", ASCENDING)]),
        IndexModel([("deptId", ASCENDING), ("account", ASCENDING)]),
    ],
}


# Transactions write to these; a collection that comes into being meanwhile makes others start over.
_COLLECTIONS: Final = ("rooms", OUTBOX, CURSORS)

_NAMESPACE_EXISTS: Final = 48


async def ensure_indexes(database: Database) -> None:
    """Create the collections and indexes that are missing."""
    with translated():
        for collection in set(_COLLECTIONS) - set(await database.db.list_collection_names()):
            await _create(database, collection)
        for collection, models in INDEXES.items():
            await database[collection].create_indexes(models)


async def _create(database: Database, collection: str) -> None:
    """Create a collection, unless another replica is faster."""
    try:
        await database.db.create_collection(collection, check_exists=False)
    except OperationFailure as error:
        if error.code != _NAMESPACE_EXISTS:
            raise
