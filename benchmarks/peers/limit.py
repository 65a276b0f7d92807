"""The limit: frames made beforehand, written as fast as the broker takes them; memcpy; the server's own work."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from benchmarks import wire
from benchmarks.accounts import accounts
from roomkeys.frame import frame
from roomkeys.keys import RoomKey
from roomkeys.payload import RoomKeyEvent, marshal
from store.connect import connect
from store.survivors import START, page_pipeline
from worker.settings import read_settings

_WRITE: Final = 256 * 1024


def framed(asked: dict[str, Any]) -> bytes:
    """Return the bytes that publish a key to every account."""
    event = RoomKeyEvent(asked["rooms"][0], RoomKey(asked["version"], bytes(32)))
    return frame(accounts(asked["members"]), marshal(event, 0))


@asynccontextmanager
async def peer() -> AsyncIterator[dict[str, Any]]:
    """Connect, and offer what can be measured."""
    settings = read_settings()
    connection = wire.connect(settings.nats_url[0])
    database = connect(settings.mongo_uri.get_secret_value(), settings.mongo_db)

    async def send(asked: dict[str, Any]) -> Callable[[], Awaitable[int]]:
        frames = memoryview(framed(asked))

        async def written() -> int:
            for start in range(0, len(frames), _WRITE):
                connection.sendall(frames[start : start + _WRITE])
            wire.confirm(connection)
            return int(asked["members"])

        return written

    async def memcpy(asked: dict[str, Any]) -> Callable[[], Awaitable[int]]:
        frames = framed(asked)
        copy = bytearray(len(frames))

        async def copied() -> int:
            copy[:] = frames
            return int(asked["members"])

        return copied

    async def read(asked: dict[str, Any]) -> Callable[[], Awaitable[int]]:
        # What the server does for our pages, without sending them anywhere.
        pages = page_pipeline(asked["rooms"], START, asked["members"])
        walk = [*pages, {"$project": {"n": {"$size": "$accounts"}}}]

        async def counted() -> int:
            return int((await database.aggregate("subscriptions", walk))[0]["n"])

        return counted

    yield {"send": send, "memcpy": memcpy, "read": read}
    await asyncio.to_thread(connection.close)
    await database.close()
