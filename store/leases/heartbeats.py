"""Replicas: who is alive, by the database's clock.

Each replica keeps one heartbeat document of its own, apart from the cursors: a heartbeat on a cursor document
would make its transactions conflict. (pitfalls.md, item 31)
"""

from dataclasses import dataclass
from typing import Final

from store.database import Database
from store.errors import translated

REPLICAS: Final = "room_worker_replicas"


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica of a site and how long ago it gave a sign of life, in milliseconds."""

    id: str
    silent_ms: float


async def heartbeat(database: Database, site: str, replica: str) -> None:
    """Give a sign of life, stamped by the database's clock."""
    with translated():
        await database[REPLICAS].update_one(
            {"_id": replica}, [{"$set": {"site": site, "beat": "$$NOW"}}], upsert=True
        )


async def leave(database: Database, replica: str) -> None:
    """Give no more signs of life."""
    with translated():
        await database[REPLICAS].delete_one({"_id": replica})


async def prune(database: Database, site: str, silent_ms: int) -> None:
    """Forget the replicas that have been silent for so long that nobody asks for them."""
    with translated():
        await database[REPLICAS].delete_many(
            {"site": site, "$expr": {"$gt": [{"$subtract": ["$$NOW", "$beat"]}, silent_ms]}}
        )


async def replicas(database: Database, site: str) -> list[Replica]:
    """Return the site's replicas, by id."""
    silence = {"_id": 1, "silent": {"$subtract": ["$$NOW", "$beat"]}}
    found = await database.find(REPLICAS, {"site": site}, silence)
    return sorted((Replica(item["_id"], item["silent"]) for item in found), key=lambda replica: replica.id)
