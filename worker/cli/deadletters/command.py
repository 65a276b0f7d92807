"""`room-worker deadletters`: lists dead letters, shows one, or publishes their events again."""

from typing import Any, Final

import click

from worker.broker.connection import Broker
from worker.cli.deadletters import stream
from worker.cli.deadletters.stream import StoredLetter
from worker.cli.terminal.connections import nats_connection
from worker.cli.terminal.output import example, json_option, safe, show, show_json, show_table
from worker.cli.terminal.process import FAILURE, OK, CommandFailed, to_end
from worker.pipeline.letters.publisher import TRUNCATED
from worker.settings import read_settings

_LIMIT: Final = 100
_COLUMNS: Final = ("sequence", "time", "code", "reason", "subject")


@click.group()
def deadletters() -> None:
    """List, show and replay dead letters.

    A dead letter is an event that can never succeed, with the reason.
    """


@deadletters.command("list", epilog=example("room-worker deadletters list --limit 20"))
@click.option(
    "--limit", type=click.IntRange(min=1), default=_LIMIT, show_default=True, help="How many to list at most."
)
@json_option
@to_end
async def list_(limit: int, *, as_json: bool) -> int:
    """List dead letters, newest first."""
    settings = read_settings()
    async with nats_connection(settings) as broker:
        found: list[dict[str, Any]] = []
        for sequence in reversed(await stream.sequences(broker, settings.site_id)):
            if letter := await stream.read(broker, settings.site_id, sequence):
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


@deadletters.command("show", epilog=example("room-worker deadletters show 12"))
@click.argument("sequence", type=click.IntRange(min=1))
@json_option
@to_end
async def show_(sequence: int, *, as_json: bool) -> int:
    """Show the headers and the body of dead letter SEQUENCE.

    Unprintable characters are escaped.
    """
    settings = read_settings()
    async with nats_connection(settings) as broker:
        letter = await stream.read(broker, settings.site_id, sequence)
    if letter is None:
        raise CommandFailed(f"there is no dead letter {sequence}")
    text = letter.body.decode(errors="backslashreplace")
    if as_json:
        show_json({**_summary(letter), "headers": letter.headers, "body": text})
        return OK
    for name, value in letter.headers.items():
        show((f"{safe(name)}: ", "dim"), safe(value))
    show("")
    show(safe(text, lines=True))
    return OK


@deadletters.command(epilog=example("room-worker deadletters replay 12", "room-worker deadletters replay --all"))
@click.argument("sequences", type=click.IntRange(min=1), nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Replay every dead letter, oldest first.")
@json_option
@to_end
async def replay(sequences: tuple[int, ...], *, everything: bool, as_json: bool) -> int:
    """Publish the events of dead letters SEQUENCES again.

    Each becomes a new event with its original subject and body, after everything that is already in the stream.
    Look at it first: a removal from last week also removes an account that has rejoined since. The dead letters
    stay in their stream.
    """
    if bool(sequences) == everything:
        raise click.UsageError("give either SEQUENCES or --all")
    settings = read_settings()
    outcomes: list[dict[str, Any]] = []
    async with nats_connection(settings) as broker:
        for sequence in sequences or await stream.sequences(broker, settings.site_id):
            letter = await stream.read(broker, settings.site_id, sequence)
            if letter is None and everything:  # it has been deleted from the stream
                continue
            outcomes.append(await _try_replay(broker, settings.site_id, sequence, letter))
            if not as_json:
                _show_outcome(outcomes[-1])
    if as_json:
        show_json(outcomes)
    elif not outcomes:
        show("no dead letters")
    return FAILURE if any("refused" in outcome for outcome in outcomes) else OK


async def _try_replay(broker: Broker, site: str, sequence: int, letter: StoredLetter | None) -> dict[str, Any]:
    """Replay a dead letter and return the outcome; a failure does not stop the replay of the others."""
    if letter is None:
        return {"sequence": sequence, "refused": "there is no such dead letter"}
    outcome = {"sequence": sequence, "subject": letter.header("Subject")}
    try:
        return {**outcome, "newSequence": await stream.replay(broker, site, letter)}
    except CommandFailed as refusal:
        return {**outcome, "refused": str(refusal)}


def _show_outcome(outcome: dict[str, Any]) -> None:
    if "refused" in outcome:
        show(f"dead letter {outcome['sequence']}: ", ("not replayed", "red"), f", {safe(outcome['refused'])}")
        return
    where = f" as event {outcome['newSequence']} on {safe(outcome['subject'])}"
    show(f"dead letter {outcome['sequence']}: ", ("replayed", "green"), where)


def _summary(letter: StoredLetter) -> dict[str, Any]:
    return {
        "sequence": letter.sequence,
        "time": "" if letter.time is None else letter.time.isoformat(timespec="seconds"),
        "code": letter.header("Code"),
        "reason": letter.header("Reason"),
        "subject": letter.header("Subject"),
        "eventSequence": letter.header("Sequence"),
        "truncated": TRUNCATED in letter.headers,
    }
