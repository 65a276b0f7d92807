"""Heartbeats: which replicas are alive, by the database's clock, and what each one says of itself.

Each replica has one heartbeat document, separate from the cursors. A heartbeat in a cursor document would conflict
with the transactions of the same replica. (docs/pitfalls.md, item 31)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from store.database import SIMPLE, Database, Document
from store.errors import translated

REPLICAS: Final = "room_worker_replicas"
_SILENCE: Final = {"$subtract": ["$$NOW", "$beat"]}
_SINCE_CHANGE: Final = {"$subtract": ["$$NOW", "$changed"]}
_IS_UNABLE: Final = {"$ne": [{"$ifNull": ["$unable", None]}, None]}


@dataclass(frozen=True, slots=True)
class Condition:
    """What a replica says of itself with each heartbeat.

    `unable` says why it cannot read events or write what they change; None: it can. `standing` says, by partition,
    why the partition does not move. Both are texts for people, without secrets.
    """

    version: str = ""
    unable: str | None = None
    standing: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica of a site, and how long ago its last heartbeat was (milliseconds, by the database's clock).

    `silent_ms` is negative if the heartbeat is in the future, as after a failover to a server with a slower clock.
    `changed_ms` is the time since the replica became unable, or able again; infinite if it has always been able.
    """

    id: str
    silent_ms: float
    condition: Condition = field(default_factory=Condition)
    changed_ms: float = inf


async def heartbeat(database: Database, site: str, replica: str, condition: Condition) -> None:
    """Write the replica's heartbeat, stamped with the database's clock."""
    is_unable = condition.unable is not None
    changed = {"$cond": [{"$eq": [_IS_UNABLE, is_unable]}, "$changed", "$$NOW"]}
    texts = {
        "version": condition.version,
        "unable": condition.unable,
        "standing": [{"partition": number, "cause": cause} for number, cause in condition.standing.items()],
    }
    # One stage: `changed` compares with the document as it was. A text may look like a field's name.
    says = {name: {"$literal": value} for name, value in texts.items()}
    beat = [{"$set": {"site": site, "beat": "$$NOW", "changed": changed, **says}}]
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
    computed: dict[str, Any] = {"silent": _SILENCE, "sinceChange": _SINCE_CHANGE}
    fields = {"_id": 1, "version": 1, "unable": 1, "standing": 1, **computed}
    found = await database.find(REPLICAS, {"site": site}, fields)
    return sorted(map(_replica, found), key=lambda replica: replica.id)


def _replica(document: Document) -> Replica:
    standing = {item["partition"]: item["cause"] for item in document.get("standing", ())}
    condition = Condition(document.get("version", ""), document.get("unable"), standing)
    since_change = document["sinceChange"]  # null for a replica that has not changed, or of an older version
    return Replica(document["_id"], document["silent"], condition, inf if since_change is None else since_change)
