"""`room-worker status`: partitions and owners, lag, rooms that are being rotated or set aside, dead letters."""

from datetime import UTC, datetime
from typing import Any, Final

import click
from nats.js.api import StreamState
from nats.js.errors import NotFoundError

from roomkeys import subjects
from store.database import Database, Document
from store.leases.heartbeats import replicas
from store.leases.lease import read_cursors, stored_partitions
from store.writes.letters import count_letters
from store.writes.outbox import unfinished_rooms
from store.writes.waiting import set_aside_rooms
from worker.broker.connection import Broker
from worker.cli.terminal.connections import database_connection, nats_connection
from worker.cli.terminal.output import example, json_option, safe, show, show_json, show_table
from worker.cli.terminal.process import OK, to_end
from worker.limits import Limits
from worker.replica.shares import alive_ids
from worker.settings import read_settings

_SHOWN_ROOMS: Final = 20
_COLUMNS: Final = ("partition", "owner", "applied", "behind")


@click.command(epilog=example("room-worker status", "room-worker status --json"))
@json_option
@to_end
async def status(*, as_json: bool) -> int:
    """Show partitions, lag, rotations and dead letters.

    Each partition is shown with its owner, and with how many events its cursor is behind.
    """
    settings = read_settings()
    site = settings.site_id
    async with database_connection(settings) as database:
        report: dict[str, Any] = {"site": site, "partitions": await stored_partitions(database, site)}
        alive = set(alive_ids(await replicas(database, site), Limits().lease_ms))
        documents = await read_cursors(database, site)
        rotating = await rotating_rooms(database, site)
        report["setAside"] = [
            {"roomId": room.room_id, "events": room.events, "failures": room.failures}
            for room in await set_aside_rooms(database, site)
        ]
        report["undeliveredLetters"] = await count_letters(database, [document["_id"] for document in documents])
    async with nats_connection(settings) as broker:
        report |= await stream_report(broker, site, documents, alive)
    report |= {"replicas": sorted(alive), "rotating": rotating}
    (show_json if as_json else _show)(report)
    return OK


async def rotating_rooms(database: Database, site: str) -> list[dict[str, Any]]:
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


async def stream_report(broker: Broker, site: str, documents: list[Document], alive: set[str]) -> dict[str, Any]:
    """Compare the cursors with the streams.

    `behind` is the number of messages after a cursor, of all partitions: the cursor of an idle partition follows
    every few seconds. It is None if the stream is missing, or ends before the cursor. `oldestSeconds` is the age of the
    first event that not every partition has passed.
    """
    events = await _state(broker, subjects.events_stream(site))
    dead_letters = await _state(broker, subjects.dead_letter_stream(site))
    last = events and events.last_seq
    rows = [
        {
            "partition": item["partition"],
            "owner": item["owner"] if item["owner"] in alive else None,
            "applied": item["applied"],
            "behind": None if last is None or last < item["applied"] else last - item["applied"],
        }
        for item in documents
    ]
    applied = min((item["applied"] for item in documents), default=None)
    waiting = last is not None and applied is not None and applied < last
    return {
        "lastSequence": last,
        "cursors": rows,
        "oldestSeconds": await _age_after(broker, site, applied) if waiting else 0,
        "deadLetters": dead_letters and dead_letters.messages,
    }


async def _state(broker: Broker, stream: str) -> StreamState | None:
    try:
        return (await broker.jetstream.stream_info(stream)).state
    except NotFoundError:
        return None


async def _age_after(broker: Broker, site: str, applied: int | None) -> float | None:
    """Return the age in seconds of the first event after `applied`; None if it was deleted meanwhile."""
    try:
        message = await broker.jetstream.get_msg(
            subjects.events_stream(site), (applied or 0) + 1, subjects.events_subjects(site), next=True
        )
    except NotFoundError:
        return None
    return None if message.time is None else max((datetime.now(UTC) - message.time).total_seconds(), 0.0)


def _show(report: dict[str, Any]) -> None:
    show("site ", (safe(report["site"]), "bold"))
    if report["partitions"] is None:
        show("no worker has been started for this site with this database yet")
        return
    if report["lastSequence"] is None:
        show(("the events stream is missing: run `room-worker check` for details", "red"))
    rows = [[_or(item[column], "no owner" if column == "owner" else "?") for column in _COLUMNS]
            for item in report["cursors"]]  # fmt: skip
    show_table(_COLUMNS, rows)
    show(f"replicas      {safe(', '.join(report['replicas']) or 'none alive')}")
    lags = [item["behind"] for item in report["cursors"]]
    behind, age = max((lag or 0 for lag in lags), default=0), report["oldestSeconds"]
    waited = "" if not behind or age is None else f", the oldest {age:.1f} s old"
    unknown = "unknown: the stream is missing or was re-created"
    show(f"behind        {unknown if None in lags else f'up to {behind} events{waited}'}")
    show(f"rotating      {_rooms(report['rotating'])}")
    waiting = [f"{safe(_or(item['roomId'], 'none'))} ({item['events']} events)" for item in report["setAside"]]
    show(f"set aside     {', '.join(waiting[:_SHOWN_ROOMS]) or 'no room'}")
    letters = report["deadLetters"]
    show("dead letters  ", (_or(letters, "unknown: the stream is missing"), "red" if letters else ""))
    if report["undeliveredLetters"]:
        show("undelivered   ", (f"{report['undeliveredLetters']} more, which the stream does not take", "red"))


def _rooms(rotating: list[dict[str, Any]]) -> str:
    if not rotating:
        return "no room"
    named = ", ".join(f"{safe(item['roomId'])} to v{item['version']}" for item in rotating[:_SHOWN_ROOMS])
    more = len(rotating) - _SHOWN_ROOMS
    return f"{named} and {more} more" if more > 0 else named


def _or(value: object, otherwise: str) -> str:
    return otherwise if value is None else str(value)
