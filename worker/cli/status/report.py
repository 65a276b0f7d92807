"""What `room-worker status` reports, as data. The fields of `--json` are public. (docs/versioning.md)"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from nats.js.api import StreamState
from nats.js.errors import NotFoundError

from roomkeys import subjects
from store.database import Database, Document
from store.leases.heartbeats import Replica, replicas
from store.leases.lease import read_cursors, stored_partitions
from store.writes.letters import count_letters
from store.writes.outbox import unfinished_rooms
from store.writes.waiting import set_aside_rooms
from worker.broker.connection import Broker
from worker.cli.status.pending import Pending, pending_events
from worker.limits import Limits
from worker.replica.shares import alive_ids

_LEASE_MS: Final = Limits().lease_ms

Report = dict[str, Any]


async def database_report(database: Database, site: str) -> Report:
    """Report what the database says: cursors, replicas, rooms that rotate or are set aside, letters that wait."""
    known = await replicas(database, site)
    cursors = await read_cursors(database, site)
    by_id = {replica.id: replica for replica in known}
    return {
        "site": site,
        "partitions": await stored_partitions(database, site),
        "cursors": [_cursor(item, by_id) for item in cursors],
        "replicas": alive_ids(known, _LEASE_MS),
        "replicaStates": [_replica(replica) for replica in known],
        "rotating": await rotating_rooms(database, site),
        "setAside": [
            {"roomId": room.room_id, "events": room.events, "failures": room.failures}
            for room in await set_aside_rooms(database, site)
        ],
        "undeliveredLetters": await count_letters(database, [item["_id"] for item in cursors]),
    }


async def stream_report(broker: Broker, site: str, cursors: Sequence[Report]) -> Report:
    """Report what the streams say, with the `cursors` completed.

    `behind` is how many events of a partition are not applied, set-aside rooms left out. It is None if the stream is
    missing, or ends before a cursor. `behindIsExact` is False if there are too many to count. `oldestSeconds` is the
    age of the first of these events, or 0.
    """
    events = await _state(broker, subjects.events_stream(site))
    dead_letters = await _state(broker, subjects.dead_letter_stream(site))
    applied = {item["partition"]: item["applied"] for item in cursors}
    pending: dict[int, Pending] = {}
    is_exact = True
    if events is not None and max(applied.values(), default=0) <= events.last_seq:
        pending, is_exact = await pending_events(broker, subjects.events_stream(site), events, applied)
    times = [one.oldest for one in pending.values() if one.oldest is not None]
    return {
        "lastSequence": events and events.last_seq,
        "cursors": [{**item, "behind": _behind(pending.get(item["partition"]))} for item in cursors],
        "behindIsExact": is_exact,
        "oldestSeconds": max((datetime.now(UTC) - min(times)).total_seconds(), 0.0) if times else 0,
        "deadLetters": dead_letters and dead_letters.messages,
    }


async def rotating_rooms(database: Database, site: str) -> list[Report]:
    """Return the rooms with a staged key: the room's id, the version of that key, and the current version.

    The outbox has an entry for each of them and is short, so this does not read every room.
    """
    query = {"_id": {"$in": await unfinished_rooms(database, site)}, "keyRotation.staged.ver": {"$exists": True}}
    found = await database.find("rooms", query, {"keyRotation.staged.ver": 1, "encKey.ver": 1})
    return [
        {
            "roomId": room["_id"],
            "version": room["keyRotation"]["staged"]["ver"],
            "inUse": (room.get("encKey") or {}).get("ver"),
        }
        for room in found
    ]


def _cursor(item: Document, known: Mapping[str, Replica]) -> Report:
    """Return a row with the owner that the cursor names, dead or alive, and why the partition does not move.

    `leaseExpiredSeconds` says for how long others may have taken the partition of a dead owner; it is None for an
    owner that is alive, or that has no heartbeat.
    """
    owner = known.get(item["owner"])
    is_alive = owner is not None and owner.id in alive_ids([owner], _LEASE_MS)
    return {
        "partition": item["partition"],
        "owner": item["owner"],
        "isOwnerAlive": is_alive,
        "leaseExpiredSeconds": None if owner is None or is_alive else max(owner.silent_ms - _LEASE_MS, 0) / 1_000,
        "applied": item["applied"],
        "cause": owner.condition.standing.get(item["partition"]) if owner is not None and is_alive else None,
    }


def _replica(replica: Replica) -> Report:
    return {
        "id": replica.id,
        "version": replica.condition.version,
        "silentSeconds": replica.silent_ms / 1_000,
        "unable": replica.condition.unable,
    }


def _behind(pending: Pending | None) -> int | None:
    return None if pending is None else pending.events


async def _state(broker: Broker, stream: str) -> StreamState | None:
    try:
        return (await broker.jetstream.stream_info(stream)).state
    except NotFoundError:
        return None
