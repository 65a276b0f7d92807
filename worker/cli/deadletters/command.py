"""`room-worker deadletters`: what was given up, and how to try it once more."""

from collections.abc import AsyncIterator
from typing import Any, Final

import click

from worker.broker.connection import Broker
from worker.broker.producer import NotStored
from worker.cli.deadletters import stream
from worker.cli.deadletters.stream import DeadLetter, Refused
from worker.cli.terminal.connections import nats_connection
from worker.cli.terminal.output import example, json_option, safe, show, show_json, show_table
from worker.cli.terminal.process import AMISS, OK, Failed, finish
from worker.settings import read_settings

_LIMIT: Final = 100
_COLUMNS: Final = ("sequence", "time", "code", "reason", "subject")


@click.group()
def deadletters() -> None:
    """Look at the events that could never succeed, and send them once more."""


@deadletters.command("list", epilog=example("room-worker deadletters list --limit 20"))
@click.option("--limit", type=click.IntRange(min=1), default=_LIMIT, show_default=True, help="At most so many.")
@json_option
def list_(limit: int, *, as_json: bool) -> None:
    """List the newest dead letters, the newest first."""
    finish(_list(limit, as_json=as_json))


@deadletters.command("show", epilog=example("room-worker deadletters show 12"))
@click.argument("sequence", type=click.IntRange(min=1))
@json_option
def show_(sequence: int, *, as_json: bool) -> None:
    """Show the dead letter SEQUENCE: its headers and its body, with what cannot be printed spelled out."""
    finish(_show(sequence, as_json=as_json))


@deadletters.command(epilog=example("room-worker deadletters replay 12", "room-worker deadletters replay --all"))
@click.argument("sequences", type=click.IntRange(min=1), nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every dead letter that there is now, the oldest first.")
@json_option
def replay(sequences: tuple[int, ...], *, everything: bool, as_json: bool) -> None:
    """Publish the events of the dead letters SEQUENCES once more, on the subjects they came on.

    Each becomes a new event, after everything that is in the stream already, and carries its old body, so look
    at it first: a removal from last week removes whoever has come back since. The letters stay.
    """
    if bool(sequences) == everything:
        raise click.UsageError("say which: either sequences or --all")
    finish(_replay(sequences, as_json=as_json))


async def _list(limit: int, *, as_json: bool) -> int:
    settings = read_settings()
    async with nats_connection(settings) as broker:
        found: list[dict[str, Any]] = []
        async for letter in stream.stored(broker, settings.site_id, newest_first=True):
            found.append(_summary(letter))
            if len(found) == limit:
                break
    if as_json:
        show_json(found)
    elif found:
        show_table(_COLUMNS, [[item[column] for column in _COLUMNS] for item in found])
    else:
        show("no dead letters")
    return OK


async def _show(sequence: int, *, as_json: bool) -> int:
    settings = read_settings()
    async with nats_connection(settings) as broker:
        letter = await _letter(broker, settings.site_id, sequence)
    if as_json:
        text = letter.body.decode(errors="backslashreplace")
        show_json({**_summary(letter), "headers": letter.headers, "body": text})
        return OK
    for name, value in letter.headers.items():
        show((f"{safe(name)}: ", "dim"), safe(value))
    show("")
    show(safe(letter.body.decode(errors="backslashreplace"), lines=True))
    return OK


async def _replay(sequences: tuple[int, ...], *, as_json: bool) -> int:
    settings = read_settings()
    outcomes: list[dict[str, Any]] = []
    async with nats_connection(settings) as broker:
        async for sequence, letter in _chosen(broker, settings.site_id, sequences):
            outcomes.append(await _once_more(broker, settings.site_id, sequence, letter))
            if not as_json:
                _tell(outcomes[-1])
    if as_json:
        show_json(outcomes)
    elif not outcomes:
        show("no dead letters")
    return AMISS if any("refused" in outcome for outcome in outcomes) else OK


async def _chosen(
    broker: Broker, site: str, sequences: tuple[int, ...]
) -> AsyncIterator[tuple[int, DeadLetter | None]]:
    if not sequences:
        async for letter in stream.stored(broker, site, newest_first=False):
            yield letter.sequence, letter
    for sequence in sequences:
        yield sequence, await stream.read(broker, site, sequence)


async def _letter(broker: Broker, site: str, sequence: int) -> DeadLetter:
    letter = await stream.read(broker, site, sequence)
    if letter is None:
        raise Failed(f"there is no dead letter {sequence}")
    return letter


async def _once_more(broker: Broker, site: str, sequence: int, letter: DeadLetter | None) -> dict[str, Any]:
    """Send a letter and return what came of it; those before it have been sent, whatever is wrong with it."""
    if letter is None:
        return {"sequence": sequence, "refused": "there is no such dead letter"}
    outcome = {"sequence": sequence, "subject": letter.subject}
    try:
        return {**outcome, "newSequence": await stream.replay(broker, site, letter)}
    except (Refused, NotStored) as refusal:
        return {**outcome, "refused": str(refusal)}


def _tell(outcome: dict[str, Any]) -> None:
    if "refused" in outcome:
        show(f"dead letter {outcome['sequence']}: ", ("not sent", "red"), f", {safe(outcome['refused'])}")
        return
    where = f" as event {outcome['newSequence']} on {safe(outcome['subject'])}"
    show(f"dead letter {outcome['sequence']}: ", ("sent once more", "green"), where)


def _summary(letter: DeadLetter) -> dict[str, Any]:
    return {
        "sequence": letter.sequence,
        "time": "" if letter.time is None else letter.time.isoformat(timespec="seconds"),
        "code": letter.code,
        "reason": letter.reason,
        "subject": letter.subject,
        "eventSequence": letter.event_sequence,
        "truncated": letter.is_truncated,
    }
