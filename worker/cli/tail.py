"""`room-worker tail`: shows which keys an account gets, as they arrive, but never a key itself."""

import asyncio
import logging
from hashlib import sha256
from time import strftime
from typing import Any, Final

import click
import orjson
from nats.aio.msg import Msg

from roomkeys import subjects
from roomkeys.client import HeldKey, RoomKeys
from worker.cli.publish import TOKEN
from worker.cli.terminal import examples
from worker.cli.terminal.connections import nats_connection
from worker.cli.terminal.output import OutputClosed, example, json_option, safe, show, show_json
from worker.cli.terminal.process import until_stopped
from worker.settings import read_settings

_FINGERPRINT_DIGITS: Final = 8
_Line = dict[str, Any]


@click.command(epilog=example("room-worker tail bob", f"room-worker {examples.TAIL}"))
@click.argument("account", type=TOKEN)
@click.option("--count", type=click.IntRange(min=1), help="Exit after this many keys.")
@json_option
@until_stopped
async def tail(stop: asyncio.Event, account: str, count: int | None, *, as_json: bool) -> None:
    """Show the room keys of ACCOUNT as they arrive.

    Also shows which rooms the account joins and leaves. If the key service answers, the output starts with the
    current keys, and continues after a lost connection with the keys that were missed. Keys are
    masked: a fingerprint, the start of the key's SHA-256, shows whether two keys are equal. Press Ctrl-C to stop.
    """
    settings = read_settings()
    shown = 0
    closed: OutputClosed | None = None

    def put(line: _Line) -> None:
        nonlocal shown, closed
        if stop.is_set():
            return
        try:
            (show_json if as_json else _show)(line)
        except OutputClosed as error:  # raised here it would end in the client's own callback
            closed = error
            stop.set()
        shown += line["type"] == "key"
        if shown == count:
            stop.set()

    async def update(message: Msg) -> None:
        put(update_line(message.data))

    logging.getLogger("roomkeys").addHandler(_Notes(logging.WARNING))
    async with nats_connection(settings, _note) as broker:
        await broker.client.subscribe(subjects.subscription_update(account), cb=update)
        keys = RoomKeys(broker.client, account, settings.site_id)
        keys.on_change(lambda held: put(key_line(held)))
        async with keys:
            await broker.client.flush()
            _note(f"listening for keys of {account}; press Ctrl-C to stop")
            await stop.wait()
    if closed is not None:
        raise closed


def key_line(held: HeldKey) -> _Line:
    """Return what to show of a key: its fingerprint, never the key."""
    fingerprint = sha256(held.key.secret).hexdigest()[:_FINGERPRINT_DIGITS]
    return {"type": "key", "roomId": held.room_id, "version": held.version, "fingerprint": fingerprint}


def update_line(data: bytes) -> _Line:
    """Return what to show of a `subscription.update`."""
    try:
        body = orjson.loads(data)
        action, subscription = str(body["action"]), body["subscription"]
        line = {"type": "subscription", "action": action, "roomId": str(subscription["roomId"])}
        line |= {field: body[field] for field in ("roomName", "timestamp") if field in body}
        return {**line, "roles": subscription.get("roles")} if action == "added" else line
    except (ValueError, KeyError, TypeError, AttributeError):
        return {"type": "unreadable", "what": "not a valid subscription update"}


def _show(line: _Line) -> None:
    now = f"{strftime('%H:%M:%S')}  "
    match line:
        case {"type": "key", "roomId": room_id, "version": version, "fingerprint": fingerprint}:
            key = (f"v{version} ••••", "green")
            show(now, "key     ", (safe(room_id), "bold"), "  ", key, f"  sha256:{fingerprint}")
        case {"type": "subscription", "action": action, "roomId": room_id}:
            name = f"  {safe(line.get('roomName', ''))}".rstrip()
            show(now, f"{safe(action):7} ", (safe(room_id), "bold"), name)
        case _:
            show(now, (line["what"], "red"))


class _Notes(logging.Handler):
    """Prints the warnings of the client library, for example that the key service does not answer."""

    def emit(self, record: logging.LogRecord) -> None:
        _note(record.getMessage())


def _note(text: str) -> None:
    click.echo(f"room-worker: {safe(text)}", err=True)
