"""Heartbeats: which replicas are alive, by the database's clock.

Each replica has one heartbeat document, separate from the cursors. A heartbeat in a cursor document would conflict
with the transactions of the same replica. (docs/pitfalls.md, item 31)
"""

from dataclasses import dataclass
from typing import Final

from store.database import SIMPLE, Database
from store.errors import translated

REPLICAS: Final = "room_worker_replicas"
_SILENCE: Final = {"$subtract": ["$$NOW", "$beat"]}


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica of a site, and how long ago its last heartbeat was (milliseconds, by the database's clock).

    `silent_ms` is negative if the heartbeat is in the future, as after a failover to a server with a slower clock.
    """

    id: str
    silent_ms: float


async def heartbeat(database: Database, site: str, replica: str) -> None:
    """Write the replica's heartbeat, stamped with the database's clock."""
    beat = [{"$set": {"site": site, "beat": "$$NOW"}}]
    with translated():
        await database[REPLICAS].update_one({"_id": replica}, beat, upsert=True, collation=SIMPLE)


async def leave(database: Database, replica: str) -> None:
    """Delete the replica's heartbeat, so that it counts as gone at once."""
    with translated():
        await database[REPLICAS].delete_one({"_id": replica}, collation=SIMPLE)


async def prune(database: Database, site: str, silent_ms: int) -> None:
    """Delete the heartbeats of replicas that have been silent for longer than `silent_ms`."""
    is_silent = {"$expr": {"$gt": [_SILENCE, silent_ms]}}
    with translated():
        await database[REPLICAS].delete_many({"site": site, **is_silent}, collation=SIMPLE)


async def replicas(database: Database, site: str) -> list[Replica]:
    """Return the site's replicas, in order of their ids."""
    found = await database.find(REPLICAS, {"site": site}, {"_id": 1, "silent": _SILENCE})
    return sorted((Replica(item["_id"], item["silent"]) for item in found), key=lambda replica: replica.id)
