"""The servers of a round: single ones, or a cluster of three of either kind."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.harness.clusters import MongoSet, NatsCluster, mongo_set, nats_cluster
from worker.local.ports import HOST
from worker.local.servers import MongoServer, NatsServer

SINGLE, NATS_OF_THREE, MONGO_OF_THREE = SHAPES = "single servers", "three NATS servers", "three MongoDB servers"
Server = TypeVar("Server", NatsServer, MongoServer)
DENIED = "u7"
PASSWORD = "secret"  # noqa: S105 - of a server that only this test uses
USERS = f"""
authorization {{ users: [
  {{ user: test, password: {PASSWORD} }}
  {{ user: worker, password: {PASSWORD}
     permissions: {{ publish: {{ deny: ["chat.user.{DENIED}.event.room.key"] }} }} }}
] }}
"""


@dataclass(frozen=True, slots=True)
class Servers:
    """Servers, one or three of each kind. `denied`: the broker does not let the worker send keys to `DENIED`."""

    denied: bool
    nats: NatsServer | None = None
    cluster: NatsCluster | None = None
    mongo: MongoServer | None = None
    mongos: MongoSet | None = None
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def nats_urls(self) -> list[str]:
        """Return the addresses of all NATS servers, for the recorder."""
        if self.nats is not None and self.denied:
            return [f"nats://test:{PASSWORD}@{HOST}:{self.nats.port}"]
        servers = [self.nats] if self.nats is not None else self.cluster.servers.values() if self.cluster else []
        return [server.url for server in servers]

    @property
    def worker_urls(self) -> list[str]:
        """Return the addresses for the workers; in a cluster only the recorder uses the first server."""
        return [url for url in self.nats_urls if self.nats is not None or url != self.nats_urls[0]]

    @property
    def mongo_uri(self) -> str:
        """Return the address of MongoDB."""
        return self.mongo.uri if self.mongo is not None else self.mongos.uri if self.mongos is not None else ""

    @property
    def replicas(self) -> int:
        """Return how many replicas a stream has."""
        return len(self.nats_urls)


@asynccontextmanager
async def run_servers(shape: str, folder: Path, *, denied: bool) -> AsyncIterator[Servers]:
    """Run the servers of a shape for the length of the block."""
    async with AsyncExitStack() as stack:
        if shape == NATS_OF_THREE:
            mongo = await stack.enter_async_context(_killed(MongoServer(folder / "mongo")))
            cluster = await stack.enter_async_context(nats_cluster(folder))
            yield Servers(denied=False, cluster=cluster, mongo=mongo)
            return
        users = {"NATS_USER": "worker", "NATS_PASSWORD": PASSWORD} if denied else {}
        nats = NatsServer(folder / "nats", config=USERS if denied else "")
        await stack.enter_async_context(_killed(nats))
        if shape == MONGO_OF_THREE:
            mongos = await stack.enter_async_context(mongo_set(folder))
            yield Servers(denied, nats=nats, mongos=mongos, variables=users)
        else:
            mongo = await stack.enter_async_context(_killed(MongoServer(folder / "mongo")))
            yield Servers(denied, nats=nats, mongo=mongo, variables=users)


@asynccontextmanager
async def _killed(server: Server) -> AsyncIterator[Server]:
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


async def away(server: NatsServer | MongoServer, chance: random.Random) -> None:
    """Kill a server and start it again, at once or after up to three seconds: longer than a lease lasts."""
    await server.kill()
    await asyncio.sleep(chance.choice([0, 1, 3]))
    await server.start()
