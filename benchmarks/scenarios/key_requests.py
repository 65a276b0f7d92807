"""The cost of requests for keys: one at a time, in batches, by sync; and when a client with many rooms is ready.

`python -m benchmarks.scenarios.key_requests` counts the requests; the database counts the queries.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

import nats
import orjson
from nats.aio.client import Client
from pymongo import AsyncMongoClient

from benchmarks.harness import seed
from benchmarks.harness.accounts import account
from benchmarks.harness.child import child
from roomkeys.client import RoomKeys
from roomkeys.subjects import key_get, keys_batch, keys_sync
from store.database import connect
from store.setup.indexes import ensure_indexes
from worker.local.ports import HOST
from worker.local.servers import local_servers

SITE: Final = "asks"
ROOMS: Final = (1, 100, 1_000)
READY_ROOMS: Final = 200
MEMBERS: Final = 20
"""Accounts of each room. The rate limit lets no single account send 1,000 requests per second."""

BATCH: Final = 100
ROUNDS: Final = 5


@dataclass(frozen=True, slots=True)
class Requester:
    """A connection for requests, and the database, which counts its queries."""

    nc: Client
    admin: Any

    async def ask(self, subject: str, **body: Any) -> dict[str, Any]:
        """Send one request and return the answer."""
        reply = await self.nc.request(subject, orjson.dumps(body), timeout=10)
        answer: dict[str, Any] = orjson.loads(reply.data)
        if "error" in answer:
            raise ValueError(f"the service answered {answer['code']}, so nothing was measured")
        return answer

    async def queries(self) -> int:
        """Return how many queries the database has run since its start."""
        commands = (await self.admin.command("serverStatus"))["metrics"]["commands"]
        return int(commands["find"]["total"] + commands["aggregate"]["total"])


async def singly(requester: Requester, rooms: list[str]) -> int:
    """Ask for each room in a separate request, from several members in turn; return the number of requests."""
    for number, room_id in enumerate(rooms):
        await requester.ask(key_get(SITE, account(1 + number % (MEMBERS - 1)), room_id))
    return len(rooms)


async def batched(requester: Requester, rooms: list[str]) -> int:
    """Ask for the rooms in batches of the size that the client library uses; return the number of requests."""
    starts = range(0, len(rooms), BATCH)
    await asyncio.gather(
        *(
            requester.ask(
                keys_batch(SITE, account(0)), requests=[{"roomId": one} for one in rooms[start : start + BATCH]]
            )
            for start in starts
        )
    )
    return len(starts)


async def synced(requester: Requester, rooms: list[str]) -> int:
    """Ask for all rooms of an account page by page; return the number of requests."""
    found, requests, cursor = 0, 0, None
    while True:
        answer = await requester.ask(
            keys_sync(SITE, f"of{len(rooms)}"), have={}, **({"cursor": cursor} if cursor else {})
        )
        found, requests, cursor = found + len(answer["results"]), requests + 1, answer.get("cursor")
        if cursor is None:
            break
    if found != len(rooms):
        raise ValueError(f"{found} of {len(rooms)} keys arrived, so nothing was measured")
    return requests


async def cost(requester: Requester, way: Callable[[Requester, list[str]], Awaitable[int]], rooms: list[str]) -> str:
    """Return the cost of one way of asking, as a row."""
    before, since = await requester.queries(), time.perf_counter()
    requests = await way(requester, rooms)
    took, queries = time.perf_counter() - since, await requester.queries() - before
    name = f"{way.__name__:>8} {len(rooms):>6,} rooms"
    return f"{name}: {requests:>5,} requests {queries:>5,} queries {took * 1e3:>8.1f} ms"


async def readiness(requester: Requester) -> None:
    """Measure in turn a client that starts with 200 rooms, and 200 single requests for the same rooms."""
    clients, singles = [], []
    rooms = [f"room{number}" for number in range(READY_ROOMS)]
    for _ in range(ROUNDS):
        since = time.perf_counter()
        async with RoomKeys(requester.nc, f"of{READY_ROOMS}", SITE) as keys:
            await keys.caught_up()
            held = sum(bool(keys.held(room_id)) for room_id in rooms)
            clients.append((time.perf_counter() - since) * 1e3)
        if held != READY_ROOMS:
            raise ValueError(f"{held} of {READY_ROOMS} keys arrived, so nothing was measured")
        since = time.perf_counter()
        await singly(requester, rooms)
        singles.append((time.perf_counter() - since) * 1e3)
        await asyncio.sleep(1)  # until the rate limit lets each account ask again
    ratio = median(clients) / median(singles)
    print(
        f"ready with {READY_ROOMS} rooms: client {median(clients):.1f} ms, "
        f"{READY_ROOMS} single requests {median(singles):.1f} ms, ratio {ratio:.3f}, {ROUNDS} rounds"
    )


@asynccontextmanager
async def requesters() -> AsyncIterator[Requester]:
    """Start the servers and a key service, and create the rooms."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        nats_server, mongo_server = await stack.enter_async_context(local_servers(folder))
        nc = await nats.connect(nats_server.url)
        stack.push_async_callback(nc.close)
        client: AsyncMongoClient[Any] = AsyncMongoClient(mongo_server.uri)
        stack.push_async_callback(client.close)
        database = connect(mongo_server.uri, SITE)
        await ensure_indexes(database)
        await database.close()
        await seed.rooms(client[SITE], SITE, "room", max(ROOMS), MEMBERS)
        for count in {*ROOMS, READY_ROOMS}:
            await seed.member_of(client[SITE], SITE, "room", count, f"of{count}")
        environment = {
            "NATS_URL": nats_server.url,
            "MONGO_URI": mongo_server.uri,
            "MONGO_DB": SITE,
            "SITE_ID": SITE,
            "HEALTH_ADDR": f"{HOST}:0",
            "METRICS_ADDR": f"{HOST}:0",
            "LOG_LEVEL": "warning",
        }
        program = [str(Path(sys.executable).parent / "room-worker"), "run", "--only", "service"]
        await stack.enter_async_context(child("ours", program, environment))
        requester = Requester(nc, client.admin)
        await _until_up(requester)
        yield requester


async def _until_up(requester: Requester) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await requester.ask(keys_sync(SITE, "nobody"))
            except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
                await asyncio.sleep(0.05)
            else:
                return


async def main() -> None:
    """Run every measurement once."""
    async with requesters() as requester:
        for count in ROOMS:
            rooms = [f"room{number}" for number in range(count)]
            for way in (singly, batched, synced):
                print(await cost(requester, way, rooms))
        await asyncio.sleep(5)  # until every account has its full budget again
        await readiness(requester)


if __name__ == "__main__":
    asyncio.run(main())
