"""Indexes, made at start-up; what exists already is left alone. (contract.md, section 5)"""

from typing import Final

from pymongo import ASCENDING, IndexModel

from store.connect import Database
from store.failures import translated

# The org indexes are this worker's own: without them an org's people are found by reading every user.
INDEXES: Final = {
    "subscriptions": [IndexModel([("roomId", ASCENDING), ("u.account", ASCENDING)], unique=True)],
    "room_members": [
        IndexModel([("rid", ASCENDING), ("member.type", ASCENDING), ("member.id", ASCENDING)], unique=True)
    ],
    "users": [IndexModel("account"), IndexModel("sectId"), IndexModel("deptId")],
}


async def ensure_indexes(database: Database) -> None:
    """Create the indexes that are missing."""
    with translated():
        for collection, models in INDEXES.items():
            await database[collection].create_indexes(models)
