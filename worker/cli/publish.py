"""`room-worker publish`: publishes an event by hand, as a producer does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import click

from roomkeys.events.bodies import MAX_NAME
from roomkeys.tokens import is_account, is_request_id, is_token
from worker.cli.terminal import examples, producer
from worker.cli.terminal.connections import nats_connection
from worker.cli.terminal.output import example, json_option, safe, show, show_json
from worker.cli.terminal.process import FAILURE, OK, to_end
from worker.cli.terminal.producer import RESULT_SECONDS, Request
from worker.settings import read_settings
from worker.settings.values import TOKEN_TEXT

_C = TypeVar("_C", bound=Callable[..., Any])


@dataclass(eq=False)
class _Checked(click.ParamType[str]):
    """A text that `is_valid`; `must_be` says in words what that is."""

    name: str
    is_valid: Callable[[object], bool]
    must_be: str

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not self.is_valid(value):
            self.fail(f"it must be {self.must_be}", param, ctx)
        return str(value)


TOKEN: Final = _Checked("token", is_token, TOKEN_TEXT)
ACCOUNT: Final = _Checked("account", is_account, f"an account: {TOKEN_TEXT}, or a bot's account such as helper.bot")
ORG: Final = _Checked(
    "org", lambda value: 0 < len(str(value)) <= MAX_NAME, f"the id of an org: 1 to {MAX_NAME} characters"
)
NAME: Final = _Checked("name", lambda value: len(str(value)) <= MAX_NAME, f"at most {MAX_NAME} characters long")
REQUEST_ID: Final = _Checked("uuid", is_request_id, "a hyphenated UUID")

_USERS: Final = click.option("--user", "users", type=ACCOUNT, multiple=True, help="An account. Can be repeated.")
_ORGS: Final = click.option(
    "--org", "orgs", type=ORG, multiple=True, help="An org, which stands for all its users. Can be repeated."
)


@click.group()
def publish() -> None:
    """Publish an event, as a producer does, and show its result."""


def _event_options(command: _C) -> _C:
    for option in (
        click.option("--room", "room_id", type=TOKEN, required=True, help="Id of the room."),
        click.option("--requester", type=TOKEN, required=True, help="Account that requests the change."),
        click.option("--request-id", type=REQUEST_ID, help="Id of the request.  [default: a new UUID]"),
        click.option("--no-wait", is_flag=True, help="Exit without waiting for the result."),
        click.option("--timeout", "seconds", type=click.FloatRange(min=0.1), default=RESULT_SECONDS,
                     show_default=True, metavar="SECONDS", help="How long to wait for the result."),
        json_option,
    ):  # fmt: skip
        command = option(command)
    return command


@publish.command(epilog=example(f"room-worker {examples.CREATE}"))
@_event_options
@click.option(
    "--name", type=NAME, default="", help="Name of the room. Without a name, a room with one user and no org is a dm."
)
@_USERS
@_ORGS
def create(room_id: str, requester: str, name: str, users: Sequence[str], orgs: Sequence[str], **options: Any) -> None:
    """Create a room with its first members."""
    _send(producer.create(room_id, requester, name=name, users=users, orgs=orgs), **options)


@publish.command(epilog=example(f"room-worker {examples.ADD}"))
@_event_options
@_USERS
@_ORGS
@click.option(
    "--history", type=click.Choice(["all", "none"]), help="Whether the new members may read earlier messages."
)
def add(
    room_id: str, requester: str, users: Sequence[str], orgs: Sequence[str], history: str | None, **options: Any
) -> None:
    """Add members to a room."""
    _send(producer.add(room_id, requester, users=users, orgs=orgs, history=history), **options)


@publish.command(epilog=example(f"room-worker {examples.REMOVE}"))
@_event_options
@_USERS
@click.option("--org", type=ORG, help="An org, in place of accounts.")
def remove(room_id: str, requester: str, users: Sequence[str], org: str | None, **options: Any) -> None:
    """Remove accounts or an org from a room; the room gets a new key."""
    if bool(users) == bool(org):
        raise click.UsageError("give either --user, which can be repeated, or --org")
    _send(producer.remove(room_id, requester, users=users, org=org), **options)


@publish.command(epilog=example(f"room-worker {examples.ROTATE}"))
@_event_options
@click.option("--reason", help="Why the key is rotated.")
def rotate(room_id: str, requester: str, reason: str | None, **options: Any) -> None:
    """Give a room a new key."""
    _send(producer.rotate(room_id, requester, reason=reason), **options)


@to_end
async def _send(request: Request, *, request_id: str | None, no_wait: bool, seconds: float, as_json: bool) -> int:
    settings = read_settings()
    request = replace(request, id=request_id or request.id)
    async with nats_connection(settings) as broker:
        if no_wait:
            sequence = await producer.publish(broker, settings.site_id, request)
            answer: dict[str, Any] = {"sequence": sequence, "requestId": request.id}
        else:
            sequence, result = await producer.ask(broker, settings.site_id, request, seconds)
            answer = {"sequence": sequence, "requestId": request.id, "result": result}
    (show_json if as_json else _show)(answer)
    return OK if no_wait or answer["result"].get("status") == "ok" else FAILURE


def _show(answer: dict[str, Any]) -> None:
    event, result = f"event {answer['sequence']}", answer.get("result")
    if result is None:
        show(f"{event}, request {answer['requestId']}")
    elif result.get("status") == "ok":
        show(f"{event}: ", ("ok", "green"), f"  {safe(result.get('operation'))}")
    else:
        error = safe(f"{result.get('code')} / {result.get('reason')}: {result.get('error')}")
        show(f"{event}: ", ("error", "red"), f"  {error}")
