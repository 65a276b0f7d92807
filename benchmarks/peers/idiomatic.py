"""nats-py as its users use it: one task per publish behind a semaphore, or a plain loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import nats
from nats.aio.client import Client

from benchmarks.harness.accounts import accounts
from roomkeys.keys import RoomKey
from roomkeys.messages.room_key import RoomKeyEvent, marshal
from roomkeys.subjects import room_key
from store.database import connect
from worker.settings import read_settings

_CONCURRENCY: Final = 32
_BARRIER_SECONDS: Final = 60
_Way = Callable[[Client, Sequence[str], bytes], Awaitable[None]]


async def plain(nc: Client, recipients: Sequence[str], payload: bytes) -> None:
    """Publish to one account after the other."""
    for account in recipients:
        await nc.publish(room_key(account), payload)


async def tasks(nc: Client, recipients: Sequence[str], payload: bytes) -> None:
    """Publish to all accounts in parallel, behind a semaphore."""
    slots = asyncio.Semaphore(_CONCURRENCY)

    async def one(account: str) -> None:
        async with slots:
            await nc.publish(room_key(account), payload)

    await asyncio.gather(*map(one, recipients))


@asynccontextmanager
async def peer() -> AsyncIterator[dict[str, Any]]:
    """Connect, and return the steps that can be measured."""
    settings = read_settings()
    nc = await nats.connect(settings.nats_url[0])
    database = connect(settings.mongo_uri.get_secret_value(), settings.mongo_db)

    def sending(way: _Way) -> Any:
        async def prepare(request: dict[str, Any]) -> Callable[[], Awaitable[int]]:
            recipients = accounts(request["members"])
            event = RoomKeyEvent(request["rooms"][0], RoomKey(request["version"], bytes(32)))

            async def send() -> int:
                await way(nc, recipients, marshal(event, 0))
                await nc.flush(_BARRIER_SECONDS)
                return len(recipients)

            return send

        return prepare

    async def documents(request: dict[str, Any]) -> Callable[[], Awaitable[int]]:
        async def read() -> int:
            return len(await database["subscriptions"].find({"roomId": request["rooms"][0]}).to_list(None))

        return read

    yield {"plain": sending(plain), "tasks": sending(tasks), "documents": documents}
    await nc.close()
    await database.close()
