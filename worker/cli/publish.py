"""`room-worker publish`: publishes an event by hand, as a producer does."""

from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

import click

from roomkeys.tokens import is_account, is_request_id, is_token
from worker.cli.terminal import producer
from worker.cli.terminal.connections import nats_connection
from worker.cli.terminal.output import example, json_option, safe, show, show_json
from worker.cli.terminal.process import FAILURE, OK, run_to_end
from worker.cli.terminal.producer import RESULT_SECONDS, Request
from worker.settings import read_settings
from worker.settings.values import TOKEN_TEXT

_C = TypeVar("_C", bound=Callable[..., Any])


class _Checked(click.ParamType[str]):
    """A text that `is_valid`; `must_be` says in words what that is."""

    def __init__(self, name: str, is_valid: Callable[[object], bool], must_be: str) -> None:
        self.name = name
        self._is_valid = is_valid
        self._must_be = must_be

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not self._is_valid(value):
            self.fail(f"it must be {self._must_be}", param, ctx)
        return str(value)


TOKEN: Final = _Checked("token", is_token, TOKEN_TEXT)
ACCOUNT: Final = _Checked(
    "account", is_account, f"an account: {TOKEN_TEXT}, or a bot's account such as helper.bot"
)
REQUEST_ID: Final = _Checked("uuid", is_request_id, "a hyphenated UUID")

_USERS: Final = click.option("--user", "users", type=ACCOUNT, multiple=True, help="An account. Can be repeated.")
_ORGS: Final = click.option(
    "--org", "orgs", multiple=True, help="An org, which stands for all its users. Can be repeated."
)


@click.group()
def publish() -> None:
    """Publish an event, as a producer does, and show its result."""


def _event_options(command: _C) -> _C:
    """Add the options of every event."""
    for option in (
        click.option("--room", "room_id", type=TOKEN, required=True, help="Id of the room."),
        click.option("--requester", type=TOKEN, required=True, help="Account that requests the change."),
        click.option("--request-id", type=REQUEST_ID, help="Id of the request.  [default: a new UUID]"),
        click.option("--no-wait", is_flag=True, help="Exit without waiting for the result."),
        click.option("--timeout", type=click.FloatRange(min=0.1), default=RESULT_SECONDS, show_default=True,
                     metavar="SECONDS", help="How long to wait for the result."),
        json_option,
    ):  # fmt: skip
        command = option(command)
    return command


@publish.command(
    epilog=example("room-worker publish create --room r1 --name general --user bob --requester alice")
)
@_event_options
@click.option(
    "--name", default="", help="Name of the room. Without a name, a room with one user and no org is a dm."
)
@_USERS
@_ORGS
def create(room_id: str, requester: str, request_id: str | None, **options: Any) -> None:
    """Create a room with its first members."""
    given = {field: options.pop(field) for field in ("name", "users", "orgs")}
    _send(producer.create(room_id, requester, **given, request_id=request_id), **options)


@publish.command(epilog=example("room-worker publish add --room r1 --user dave --requester alice"))
@_event_options
@_USERS
@_ORGS
@click.option(
    "--history", type=click.Choice(["all", "none"]), help="Whether the new members may read earlier messages."
)
def add(room_id: str, requester: str, request_id: str | None, **options: Any) -> None:
    """Add members to a room."""
    given = {field: options.pop(field) for field in ("users", "orgs", "history")}
    _send(producer.add(room_id, requester, **given, request_id=request_id), **options)


@publish.command(epilog=example("room-worker publish remove --room r1 --user bob --requester alice"))
@_event_options
@_USERS
@click.option("--org", help="An org, in place of accounts.")
def remove(room_id: str, requester: str, request_id: str | None, **options: Any) -> None:
    """Remove accounts or an org from a room; the room gets a new key."""
    users, org = options.pop("users"), options.pop("org")
    if bool(users) == bool(org):
        raise click.UsageError("give either --user, which can be repeated, or --org")
    _send(producer.remove(room_id, requester, users=users, org=org, request_id=request_id), **options)


@publish.command(epilog=example("room-worker publish rotate --room r1 --requester alice --reason leaked"))
@_event_options
@click.option("--reason", help="Why the key is rotated.")
def rotate(room_id: str, requester: str, request_id: str | None, **options: Any) -> None:
    """Give a room a new key."""
    _send(producer.rotate(room_id, requester, reason=options.pop("reason"), request_id=request_id), **options)


def _send(request: Request, *, no_wait: bool, timeout: float, as_json: bool) -> NoReturn:
    run_to_end(_publish(request, as_json=as_json) if no_wait else _ask(request, timeout, as_json=as_json))


async def _publish(request: Request, *, as_json: bool) -> int:
    settings = read_settings()
    async with nats_connection(settings) as broker:
        sequence = await producer.publish(broker, settings.site_id, request)
    if as_json:
        show_json({"sequence": sequence, "requestId": request.id})
    else:
        show(f"event {sequence}, request {request.id}")
    return OK


async def _ask(request: Request, seconds: float, *, as_json: bool) -> int:
    settings = read_settings()
    async with nats_connection(settings) as broker:
        sequence, result = await producer.ask(broker, settings.site_id, request, seconds)
    succeeded = result.get("status") == "ok"
    if as_json:
        show_json({"sequence": sequence, "requestId": request.id, "result": result})
    elif succeeded:
        show(f"event {sequence}: ", ("ok", "green"), f"  {safe(result.get('operation'))}")
    else:
        error = safe(f"{result.get('code')} / {result.get('reason')}: {result.get('error')}")
        show(f"event {sequence}: ", ("error", "red"), f"  {error}")
    return OK if succeeded else FAILURE
