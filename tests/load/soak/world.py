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
PASSWORD = "secret"  # noqa: S105 - of a server on this machine
USERS = f"""
authorization {{ users: [
  {{ user: test, password: {PASSWORD} }}
  {{ user: worker, password: {PASSWORD}
     permissions: {{ publish: {{ deny: ["chat.user.{DENIED}.event.room.key"] }} }} }}
] }}
"""


@dataclass(frozen=True, slots=True)
class World:
    """Servers; of each kind either one or three. `denied`: the broker lets `DENIED` be sent no keys."""

    denied: bool
    nats: NatsServer | None = None
    cluster: NatsCluster | None = None
    mongo: MongoServer | None = None
    mongos: MongoSet | None = None
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def nats_urls(self) -> list[str]:
        """Return the addresses of all servers of the broker, for whoever listens."""
        if self.nats is not None and self.denied:
            return [f"nats://test:{PASSWORD}@{HOST}:{self.nats.port}"]
        servers = [self.nats] if self.nats is not None else self.cluster.servers.values() if self.cluster else []
        return [server.url for server in servers]

    @property
    def worker_urls(self) -> list[str]:
        """Return those of the workers: in a cluster the first server is left to the listeners."""
        return [url for url in self.nats_urls if self.nats is not None or url != self.nats_urls[0]]

    @property
    def mongo_uri(self) -> str:
        """Return the address of the database."""
        return self.mongo.uri if self.mongo is not None else self.mongos.uri if self.mongos is not None else ""

    @property
    def replicas(self) -> int:
        """Return how often a stream is to be kept."""
        return len(self.nats_urls)


@asynccontextmanager
async def world(shape: str, folder: Path, *, denied: bool) -> AsyncIterator[World]:
    """Run the servers of a shape."""
    async with AsyncExitStack() as stack:
        if shape == NATS_OF_THREE:
            mongo = await stack.enter_async_context(_killed(MongoServer(folder / "mongo")))
            cluster = await stack.enter_async_context(nats_cluster(folder))
            yield World(denied=False, cluster=cluster, mongo=mongo)
            return
        users = {"NATS_USER": "worker", "NATS_PASSWORD": PASSWORD} if denied else {}
        nats = NatsServer(folder / "nats", config=USERS if denied else "")
        await stack.enter_async_context(_killed(nats))
        if shape == MONGO_OF_THREE:
            mongos = await stack.enter_async_context(mongo_set(folder))
            yield World(denied, nats=nats, mongos=mongos, variables=users)
        else:
            mongo = await stack.enter_async_context(_killed(MongoServer(folder / "mongo")))
            yield World(denied, nats=nats, mongo=mongo, variables=users)


@asynccontextmanager
async def _killed(server: Server) -> AsyncIterator[Server]:
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


async def away(server: NatsServer | MongoServer, chance: random.Random) -> None:
    """Kill a server and start it again after a moment, or after longer than a worker may be silent."""
    await server.kill()
    await asyncio.sleep(chance.choice([0, 1, 3]))
    await server.start()
