"""`room-worker tail`: a subscriber for people; it shows that a key came, never the key."""

import asyncio
from base64 import b64decode
from collections.abc import Awaitable, Callable
from hashlib import sha256
from time import strftime
from typing import Any, Final

import click
import orjson
from nats.aio.msg import Msg

from roomkeys import subjects
from roomkeys.keys import KEY_BYTES
from worker.commands.connecting import nats_connection
from worker.commands.printing import example, json_option, safe, show, show_json
from worker.commands.publish import TOKEN
from worker.commands.running import serve
from worker.settings import read_settings

AGAIN: Final = "again"
ANOTHER: Final = "another key for a version that came before"
_FINGERPRINT: Final = 8


@click.command(epilog=example("room-worker tail alice", "room-worker tail alice --count 1 --json"))
@click.argument("account", type=TOKEN)
@click.option("--count", type=click.IntRange(min=1), help="End after so many keys.")
@json_option
def tail(account: str, count: int | None, *, as_json: bool) -> None:
    """Show the room keys that ACCOUNT receives, and the rooms it joins and leaves, as they arrive.

    Keys are masked: a fingerprint, the start of their SHA-256, tells whether two are the same. Ctrl-C ends it.
    """
    serve(lambda stop: _tail(account, count, stop, show_json if as_json else _show))


async def _tail(
    account: str, count: int | None, stop: asyncio.Event, out: Callable[[dict[str, Any]], None]
) -> None:
    settings = read_settings()
    ledger = Ledger()

    async def key(message: Msg) -> None:
        if not stop.is_set():
            out(ledger.note(key_line(message.data)))
            if ledger.keys == count:
                stop.set()

    async def update(message: Msg) -> None:
        if not stop.is_set():
            out(update_line(message.data))

    async with nats_connection(settings, _tell) as broker:
        hearing: dict[str, Callable[[Msg], Awaitable[None]]] = {
            subjects.subscription_update(account): update,
            subjects.room_key(account): key,
        }
        for subject, heard in hearing.items():
            await broker.client.subscribe(subject, cb=heard)
        await broker.client.flush()
        _tell(f"listening to what {account} is sent; Ctrl-C ends it")
        await stop.wait()


class Ledger:
    """The fingerprints of the keys that came, by room and version, and how many came."""

    def __init__(self) -> None:
        self.keys = 0
        self._fingerprints: dict[tuple[str, int], str] = {}

    def note(self, line: dict[str, Any]) -> dict[str, Any]:
        """Count a line that is a key, and mark one that came before."""
        if line["type"] != "key":
            return line
        self.keys += 1
        place = (line["roomId"], line["version"])
        known = self._fingerprints.setdefault(place, "")
        if not known:
            self._fingerprints[place] = line["fingerprint"]
            return line
        return {**line, "note": AGAIN if known == line["fingerprint"] else ANOTHER}


def key_line(data: bytes) -> dict[str, Any]:
    """Return what to show of a key message: never the key, only a fingerprint of it."""
    try:
        body = orjson.loads(data)
        room_id, version, timestamp = str(body["roomId"]), int(body["version"]), int(body["timestamp"])
        secret = b64decode(body["privateKey"], validate=True)
    except (ValueError, KeyError, TypeError):
        return {"type": "unreadable", "what": "a message that is no room key"}
    if len(secret) != KEY_BYTES:
        return {"type": "unreadable", "what": "a room key of another length than 32 bytes"}
    fingerprint = sha256(secret).hexdigest()[:_FINGERPRINT]
    return {
        "type": "key",
        "roomId": room_id,
        "version": version,
        "fingerprint": fingerprint,
        "timestamp": timestamp,
    }


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
            note = f"  ({line['note']})" if "note" in line else ""
            style = "bold red" if line.get("note") == ANOTHER else "dim"
            key = (f"v{version} ••••", "green")
            show(now, "key     ", (safe(room_id), "bold"), "  ", key, f"  sha256:{fingerprint}", (note, style))
        case {"type": "subscription", "action": action, "roomId": room_id}:
            show(
                now, f"{safe(action):7} ", (safe(room_id), "bold"), f"  {safe(line.get('roomName', ''))}".rstrip()
            )
        case _:
            show(now, (line["what"], "red"))


def _tell(text: str) -> None:
    click.echo(f"room-worker: {safe(text)}", err=True)
