"""The limit: ready-made frames, written as fast as the broker takes them; memcpy; the database's own work."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from benchmarks.harness import wire
from benchmarks.harness.accounts import accounts
from roomkeys.keys import RoomKey
from roomkeys.messages.frame import frame
from roomkeys.messages.room_key import RoomKeyEvent, marshal
from store.database import connect
from store.reads.members import START, page_pipeline
from worker.settings import read_settings

_WRITE: Final = 256 * 1024
_CONNECTIONS: Final = 4


def framed(recipients: Sequence[str], request: dict[str, Any]) -> bytes:
    """Return the protocol bytes that publish a key to the recipients."""
    event = RoomKeyEvent(request["rooms"][0], RoomKey(request["version"], bytes(32)))
    return frame(recipients, marshal(event, 0))


def write(connection: socket.socket, frames: bytes) -> None:
    """Write frames as fast as the broker takes them, and wait for its confirmation."""
    view = memoryview(frames)
    for start in range(0, len(view), _WRITE):
        connection.sendall(view[start : start + _WRITE])
    wire.confirm(connection)


@asynccontextmanager
async def peer() -> AsyncIterator[dict[str, Any]]:
    """Connect, and return the steps that can be measured."""
    settings = read_settings()
    connections = [wire.connect(settings.nats_url[0]) for _ in range(_CONNECTIONS)]
    database = connect(settings.mongo_uri.get_secret_value(), settings.mongo_db)

    async def send(request: dict[str, Any]) -> Callable[[], Awaitable[int]]:
        frames = framed(accounts(request["members"]), request)

        async def written() -> int:
            write(connections[0], frames)
            return int(request["members"])

        return written

    async def send_over_all(request: dict[str, Any]) -> Callable[[], Awaitable[int]]:
        recipients = accounts(request["members"])
        shares = [framed(recipients[at::_CONNECTIONS], request) for at in range(_CONNECTIONS)]

        async def written() -> int:
            await asyncio.gather(*(asyncio.to_thread(write, *one) for one in zip(connections, shares, strict=True)))
            return int(request["members"])

        return written

    async def memcpy(request: dict[str, Any]) -> Callable[[], Awaitable[int]]:
        frames = framed(accounts(request["members"]), request)
        copy = bytearray(len(frames))

        async def copied() -> int:
            copy[:] = frames
            return int(request["members"])

        return copied

    async def read(request: dict[str, Any]) -> Callable[[], Awaitable[int]]:
        # The work of the database for our pages, without sending them.
        pages = page_pipeline(request["rooms"], START, request["members"])
        walk = [*pages, {"$project": {"n": {"$size": "$accounts"}}}]

        async def counted() -> int:
            return int((await database.aggregate("subscriptions", walk))[0]["n"])

        return counted

    yield {"send": send, "send_over_all": send_over_all, "memcpy": memcpy, "read": read}
    for connection in connections:
        await asyncio.to_thread(connection.close)
    await database.close()
