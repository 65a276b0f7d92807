"""The command `room-worker status`."""

from typing import Final

import click

from worker.cli.status.pending import MOST_MESSAGES
from worker.cli.status.report import Report, database_report, stream_report
from worker.cli.terminal.connections import database_connection, nats_connection
from worker.cli.terminal.output import example, json_option, safe, show, show_json, show_table
from worker.cli.terminal.process import OK, to_end
from worker.settings import read_settings

_SHOWN: Final = 20
"""How many rooms a line names."""

_COLUMNS: Final = ("partition", "owner", "applied", "behind")


@click.command(epilog=example("room-worker status", "room-worker status --json"))
@json_option
@to_end
async def status(*, as_json: bool) -> int:
    """Show partitions, lag, rotations and dead letters.

    Each partition is shown with its owner, dead or alive, and with how many of its events are not applied yet. If a
    partition does not move, its owner's last words say why.
    """
    settings = read_settings()
    async with database_connection(settings) as database:
        report = await database_report(database, settings.site_id)
    async with nats_connection(settings) as broker:
        report |= await stream_report(broker, settings.site_id, report["cursors"])
    (show_json if as_json else _show)(report)
    return OK


def _show(report: Report) -> None:
    show("site ", (safe(report["site"]), "bold"))
    if report["partitions"] is None:
        show("no worker has been started for this site with this database yet")
        return
    if report["lastSequence"] is None:
        show(("the events stream is missing: run `room-worker check` for details", "red"))
    rows = [(item["partition"], _owner(item), item["applied"], _or(item["behind"], "?")) for item in report["cursors"]]
    show_table(_COLUMNS, rows)
    _show_causes(report)
    show(f"replicas      {safe(_replicas(report))}")
    show(f"behind        {_behind(report)}")
    rotating = [f"{item['roomId']} to v{item['version']}" for item in report["rotating"]]
    show(f"rotating      {_rooms(rotating)}")
    set_aside = [f"{_or(item['roomId'], 'events without a room')} ({_events(item)})" for item in report["setAside"]]
    show("set aside     ", (_rooms(set_aside), "red" if set_aside else ""))
    letters = report["deadLetters"]
    show("dead letters  ", (_or(letters, "unknown: the stream is missing"), "red" if letters else ""))
    if report["undeliveredLetters"]:
        show("undelivered   ", (f"{report['undeliveredLetters']} more, which the stream does not take", "red"))


def _show_causes(report: Report) -> None:
    for item in report["cursors"]:
        if item["cause"] is not None:
            show((f"partition {item['partition']} {safe(item['cause'])}", "red"))
    for replica in report["replicaStates"]:
        if replica["unable"] is not None and replica["id"] in report["replicas"]:
            show((f"replica {safe(replica['id'])} cannot work: {safe(replica['unable'])}", "red"))


def _owner(cursor: Report) -> str:
    expired_s = cursor["leaseExpiredSeconds"]
    if cursor["owner"] is None:
        return "no owner"
    if cursor["isOwnerAlive"]:
        return str(cursor["owner"])
    return f"{cursor['owner']}, lease expired" + ("" if expired_s is None else f" {expired_s:.0f} s ago")


def _replicas(report: Report) -> str:
    named = [
        f"{replica['id']} (version {replica['version']})" if replica["version"] else replica["id"]
        for replica in report["replicaStates"]
        if replica["id"] in report["replicas"]
    ]
    return ", ".join(named) or "none alive"


def _behind(report: Report) -> str:
    lags, age = [item["behind"] for item in report["cursors"]], report["oldestSeconds"]
    if None in lags:
        return "unknown: the stream is missing or was re-created"
    if not any(lags):
        return "0 events" if report["behindIsExact"] else f"more than {MOST_MESSAGES} messages"
    at_least = "" if report["behindIsExact"] else "at least "
    return f"{at_least}{sum(lags)} events, the oldest {age:.1f} s old"


def _events(item: Report) -> str:
    return f"{item['events']} events, failed {item['failures']} times"


def _rooms(named: list[str]) -> str:
    if not named:
        return "no room"
    more = len(named) - _SHOWN
    return ", ".join(map(safe, named[:_SHOWN])) + (f" and {more} more" if more > 0 else "")


def _or(value: object, otherwise: str) -> str:
    return otherwise if value is None else str(value)
