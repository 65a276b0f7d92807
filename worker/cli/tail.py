"""`room-worker tail`: a subscriber for people; it shows that a key came, never the key."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from time import strftime
from typing import Any, Final

import click
import orjson
from nats.aio.msg import Msg

from roomkeys import subjects
from roomkeys.client import HeldKey, RoomKeys
from worker.cli.publish import TOKEN
from worker.cli.terminal.connections import nats_connection
from worker.cli.terminal.output import example, json_option, safe, show, show_json
from worker.cli.terminal.process import serve
from worker.settings import read_settings

_FINGERPRINT: Final = 8


@click.command(epilog=example("room-worker tail alice", "room-worker tail alice --count 1 --json"))
@click.argument("account", type=TOKEN)
@click.option("--count", type=click.IntRange(min=1), help="End after so many keys.")
@json_option
def tail(account: str, count: int | None, *, as_json: bool) -> None:
    """Show the room keys of ACCOUNT as they arrive, and the rooms it joins and leaves.

    It begins with the keys in use now, and after a lost connection goes on with those that came meanwhile,
    where the key service answers. Keys are masked: a fingerprint, the start of their SHA-256, tells whether
    two are the same. Ctrl-C ends it.
    """
    serve(lambda stop: _tail(account, count, stop, show_json if as_json else _show))


async def _tail(
    account: str, count: int | None, stop: asyncio.Event, out: Callable[[dict[str, Any]], None]
) -> None:
    settings = read_settings()
    shown = 0

    def tell(line: dict[str, Any]) -> None:
        try:
            out(line)
        except OSError:  # nobody reads it any more
            stop.set()

    def key(held: HeldKey) -> None:
        nonlocal shown
        if not stop.is_set():
            tell(key_line(held))
            shown += 1
            if shown == count:
                stop.set()

    async def update(message: Msg) -> None:
        if not stop.is_set():
            tell(update_line(message.data))

    with _warnings_told():
        async with nats_connection(settings, _tell) as broker:
            await broker.client.subscribe(subjects.subscription_update(account), cb=update)
            keys = RoomKeys(broker.client, account, settings.site_id)
            keys.on_change(key)
            async with keys:
                await broker.client.flush()
                _tell(f"listening to what {account} is sent; Ctrl-C ends it")
                await stop.wait()


def key_line(held: HeldKey) -> dict[str, Any]:
    """Return what to show of a key: never the key, only a fingerprint of it."""
    fingerprint = sha256(held.key.secret).hexdigest()[:_FINGERPRINT]
    return {"type": "key", "roomId": held.room_id, "version": held.version, "fingerprint": fingerprint}


def update_line(data: bytes) -> dict[str, Any]:
    """Return what to show of a `subscription.update`."""
    try:
        body = orjson.loads(data)
        action, subscription = str(body["action"]), body["subscription"]
        line = {"type": "subscription", "action": action, "roomId": str(subscription["roomId"])}
        line |= {field: body[field] for field in ("roomName", "timestamp") if field in body}
        return {**line, "roles": subscription.get("roles")} if action == "added" else line
    except (ValueError, KeyError, TypeError, AttributeError):
        return {"type": "unreadable", "what": "a message that is no subscription update"}


def _show(line: dict[str, Any]) -> None:
    now = f"{strftime('%H:%M:%S')}  "
    match line:
        case {"type": "key", "roomId": room_id, "version": version, "fingerprint": fingerprint}:
            key = (f"v{version} ••••", "green")
            show(now, "key     ", (safe(room_id), "bold"), "  ", key, f"  sha256:{fingerprint}")
        case {"type": "subscription", "action": action, "roomId": room_id}:
            show(
                now, f"{safe(action):7} ", (safe(room_id), "bold"), f"  {safe(line.get('roomName', ''))}".rstrip()
            )
        case _:
            show(now, (line["what"], "red"))


@contextmanager
def _warnings_told() -> Iterator[None]:
    """Tell what the library warns of: another key for a version, a service that does not answer."""

    class Telling(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            _tell(record.getMessage())

    handler, log = Telling(logging.WARNING), logging.getLogger("roomkeys")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _tell(text: str) -> None:
    click.echo(f"room-worker: {safe(text)}", err=True)
