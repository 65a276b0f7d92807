"""`room-worker publish`: a producer for people."""

from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

import click

from roomkeys.tokens import is_account, is_request_id, is_token
from worker.broker import producer
from worker.broker.producer import RESULT_SECONDS, Request
from worker.cli.terminal.connections import nats_connection
from worker.cli.terminal.output import example, json_option, safe, show, show_json
from worker.cli.terminal.process import AMISS, OK, finish
from worker.settings import read_settings

_C = TypeVar("_C", bound=Callable[..., Any])


class _Checked(click.ParamType[str]):
    """A text that has to be of a kind; `meaning` says which."""

    def __init__(self, name: str, is_kind: Callable[[object], bool], meaning: str) -> None:
        self.name = name
        self._is_kind = is_kind
        self._meaning = meaning

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not self._is_kind(value):
            self.fail(f"it must be {self._meaning}", param, ctx)
        return str(value)


_A_TOKEN: Final = "a token: not empty, without '.', '*', '>' and white space"  # noqa: S105 - of a subject
TOKEN: Final = _Checked("token", is_token, _A_TOKEN)
ACCOUNT: Final = _Checked("account", is_account, f"an account: {_A_TOKEN}, or a bot's token.bot")
REQUEST_ID: Final = _Checked("uuid", is_request_id, "a hyphenated UUID")

_USERS: Final = click.option(
    "--user", "users", type=ACCOUNT, multiple=True, help="An account; as often as needed."
)
_ORGS: Final = click.option("--org", "orgs", multiple=True, help="An org, which stands for its users.")


@click.group()
def publish() -> None:
    """Publish an event, as other services do, and show its result."""


def _asking(command: _C) -> _C:
    """Add the options that every event has."""
    for option in (
        click.option("--room", "room_id", type=TOKEN, required=True, help="The room's id."),
        click.option("--requester", type=TOKEN, required=True, help="The account that asks."),
        click.option("--request-id", type=REQUEST_ID, help="Names the request.  [default: a new one]"),
        click.option("--no-wait", is_flag=True, help="Do not wait for the result."),
        click.option("--timeout", type=click.FloatRange(min=0.1), default=RESULT_SECONDS, show_default=True,
                     metavar="SECONDS", help="How long to wait for the result."),
        json_option,
    ):  # fmt: skip
        command = option(command)
    return command


@publish.command(
    epilog=example("room-worker publish create --room r1 --name general --user bob --requester alice")
)
@_asking
@click.option("--name", default="", help="The room's name; none, with one user and no org: a dm.")
@_USERS
@_ORGS
def create(room_id: str, requester: str, request_id: str | None, **options: Any) -> None:
    """Create a room with its first members."""
    given = {field: options.pop(field) for field in ("name", "users", "orgs")}
    _send(producer.create(room_id, requester, **given, request_id=request_id), **options)


@publish.command(epilog=example("room-worker publish add --room r1 --user dave --requester alice"))
@_asking
@_USERS
@_ORGS
@click.option("--history", type=click.Choice(["all", "none"]), help="What was said before: seen or not.")
def add(room_id: str, requester: str, request_id: str | None, **options: Any) -> None:
    """Add members to a room."""
    given = {field: options.pop(field) for field in ("users", "orgs", "history")}
    _send(producer.add(room_id, requester, **given, request_id=request_id), **options)


@publish.command(epilog=example("room-worker publish remove --room r1 --user bob --requester alice"))
@_asking
@_USERS
@click.option("--org", help="An org, instead of accounts.")
def remove(room_id: str, requester: str, request_id: str | None, **options: Any) -> None:
    """Remove members, accounts or an org, from a room, which gives it a new key."""
    users, org = options.pop("users"), options.pop("org")
    if bool(users) == bool(org):
        raise click.UsageError("say who is removed: either --user, as often as needed, or --org")
    _send(producer.remove(room_id, requester, users=users, org=org, request_id=request_id), **options)


@publish.command(epilog=example("room-worker publish rotate --room r1 --requester alice --reason leaked"))
@_asking
@click.option("--reason", help="Why.")
def rotate(room_id: str, requester: str, request_id: str | None, **options: Any) -> None:
    """Give a room a new key."""
    _send(producer.rotate(room_id, requester, reason=options.pop("reason"), request_id=request_id), **options)


def _send(request: Request, *, no_wait: bool, timeout: float, as_json: bool) -> NoReturn:
    finish(_published(request, as_json=as_json) if no_wait else _asked(request, timeout, as_json=as_json))


async def _published(request: Request, *, as_json: bool) -> int:
    settings = read_settings()
    async with nats_connection(settings) as broker:
        sequence = await producer.publish(broker, settings.site_id, request)
    if as_json:
        show_json({"sequence": sequence, "requestId": request.id})
    else:
        show(f"event {sequence}, request {request.id}")
    return OK


async def _asked(request: Request, seconds: float, *, as_json: bool) -> int:
    settings = read_settings()
    async with nats_connection(settings) as broker:
        sequence, result = await producer.ask(broker, settings.site_id, request, seconds)
    went_well = result.get("status") == "ok"
    if as_json:
        show_json({"sequence": sequence, "requestId": request.id, "result": result})
    elif went_well:
        show(f"event {sequence}: ", ("ok", "green"), f"  {safe(result.get('operation'))}")
    else:
        why = safe(f"{result.get('code')} / {result.get('reason')}: {result.get('error')}")
        show(f"event {sequence}: ", ("error", "red"), f"  {why}")
    return OK if went_well else AMISS
