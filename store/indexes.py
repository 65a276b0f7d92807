"""Collections and indexes, created at start-up unless they exist. (docs/contract.md, section 5)"""

from typing import Final

from pymongo import ASCENDING, IndexModel
from pymongo.errors import OperationFailure

from store.database import Database
from store.errors import translated
from store.leases.lease import CURSORS
from store.writes.outbox import OUTBOX

# Some indexes serve only this worker. Without those on `sectId` and `deptId`, finding the users of an org reads
# every user; with the account in them, the users come in order of accounts. Without the one that begins with
# `u.account`, finding the rooms of an account reads every membership.
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

# Transactions write to these. Creating a collection while transactions run makes them fail with a conflict.
_COLLECTIONS: Final = ("rooms", OUTBOX, CURSORS)
_NAMESPACE_EXISTS: Final = 48


async def ensure_indexes(database: Database) -> None:
    """Create the collections and indexes that are missing."""
    with translated():
        for collection in set(_COLLECTIONS) - set(await database.db.list_collection_names()):
            try:
                await database.db.create_collection(collection, check_exists=False)
            except OperationFailure as error:
                if error.code != _NAMESPACE_EXISTS:  # it exists if another replica was faster
                    raise
        for collection, models in INDEXES.items():
            await database[collection].create_indexes(models)
