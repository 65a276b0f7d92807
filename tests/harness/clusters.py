"""Three NATS servers with replicated streams, and a MongoDB replica set of three, on this machine."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import nats
from nats.js.errors import APIError
from pymongo import AsyncMongoClient
from pymongo.errors import ConnectionFailure

from worker.local.mongo_replica_set import BRIEF, NAME
from worker.local.ports import HOST, free_port
from worker.local.servers import MongoServer, NatsServer

PATIENCE = 60.0
MEMBERS = 3
MONGO_NAMES = [f"mongo{number}" for number in range(MEMBERS)]
NATS_NAMES = [f"n{number}" for number in range(MEMBERS)]


class Member(MongoServer):
    """A server that is one of several: it is up when it answers, and makes no replica set of itself alone."""

    async def leads(self) -> bool:
        """Tell whether it can be written to."""
        return bool((await self._hello()).get("isWritablePrimary"))

    async def _answers(self) -> bool:
        return bool(await self._hello())

    async def _hello(self) -> dict[str, Any]:
        try:
            _, writer = await asyncio.open_connection(HOST, self.port)  # the driver waits when refused
            writer.close()
            async with AsyncMongoClient[dict[str, Any]](HOST, self.port, **BRIEF) as client:
                return await client.admin.command("hello")
        except (OSError, ConnectionFailure):
            return {}


@dataclass(frozen=True, slots=True)
class MongoSet:
    """A replica set of three that soon elects another primary."""

    members: list[Member]

    @property
    def uri(self) -> str:
        hosts = ",".join(f"{HOST}:{member.port}" for member in self.members)
        return f"mongodb://{hosts}/?replicaSet={NAME}"

    async def primary(self) -> Member:
        """Return the member that can be written to, once there is one."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for member in self.members:
                    if await member.leads():
                        return member
                await asyncio.sleep(0.1)

    async def step_down(self) -> None:
        """Let the primary give way to another member."""
        primary = await self.primary()
        async with AsyncMongoClient[dict[str, Any]](HOST, primary.port, **BRIEF) as client:
            await client.admin.command("replSetStepDown", 5, force=True)


@asynccontextmanager
async def mongo_set(folder: Path) -> AsyncIterator[MongoSet]:
    """Run a replica set of three."""
    made = MongoSet([Member(folder / name) for name in MONGO_NAMES])
    async with AsyncExitStack() as stack:
        for member in made.members:
            stack.push_async_callback(member.kill)
        await asyncio.gather(*(member.start() for member in made.members))
        config = {
            "_id": NAME,
            "members": [{"_id": number, "host": f"{HOST}:{one.port}"} for number, one in enumerate(made.members)],
            "settings": {"electionTimeoutMillis": 2_000, "heartbeatIntervalMillis": 500},
        }
        async with AsyncMongoClient[dict[str, Any]](HOST, made.members[0].port, **BRIEF) as client:
            await client.admin.command("replSetInitiate", config)
        await made.primary()
        yield made


@dataclass(frozen=True, slots=True)
class NatsCluster:
    """Three servers, by name, and the addresses at which each tells of its connections."""

    servers: dict[str, NatsServer]
    monitors: dict[str, str]

    async def server_of(self, name: str) -> str:
        """Return the name of the server to which the client of this name is connected."""
        async with aiohttp.ClientSession() as session:
            for server, monitor in self.monitors.items():
                async with session.get(f"{monitor}/connz") as answer:
                    connections = (await answer.json())["connections"]
                if any(connection.get("name") == name for connection in connections):
                    return server
        raise AssertionError(f"{name} is connected to none of them")

    async def until_whole(self) -> None:
        """Wait until a stream can be kept on all servers."""
        async with asyncio.timeout(PATIENCE), await nats.connect(self.servers["n0"].url) as client:
            while True:
                try:
                    await client.jetstream().add_stream(name="probe", subjects=["probe"], num_replicas=MEMBERS)
                except (APIError, nats.errors.Error):
                    await asyncio.sleep(0.1)
                else:
                    await client.jetstream().delete_stream("probe")
                    return


async def leader_of(url: str, stream: str, suits: Callable[[str], bool]) -> str:
    """Return the name of the stream's leader, having others elected until it suits."""
    async with asyncio.timeout(PATIENCE), await nats.connect(url) as client:
        while True:
            try:
                info = await client.jetstream().stream_info(stream)
            except (APIError, nats.errors.Error):
                info = None
            if info is not None and info.cluster is not None and info.cluster.leader:
                if suits(info.cluster.leader):
                    return str(info.cluster.leader)
                await client.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{stream}")
            await asyncio.sleep(0.1)


@asynccontextmanager
async def nats_cluster(folder: Path) -> AsyncIterator[NatsCluster]:
    """Run three servers that form one JetStream; clients use only the servers in their URL list."""
    routes, monitors = ({name: free_port() for name in NATS_NAMES} for _ in range(2))
    all_routes = ", ".join(f'"nats://{HOST}:{port}"' for port in routes.values())
    servers = {
        name: NatsServer(
            folder / name,
            config=f"server_name: {name}\nhttp: {HOST}:{monitors[name]}\n"
            f"cluster {{ name: c, listen: {HOST}:{routes[name]}, routes: [{all_routes}], no_advertise: true }}",
        )
        for name in NATS_NAMES
    }
    async with AsyncExitStack() as stack:
        for server in servers.values():
            stack.push_async_callback(server.kill)
        await asyncio.gather(*(server.start() for server in servers.values()))
        made = NatsCluster(servers, {name: f"http://{HOST}:{port}" for name, port in monitors.items()})
        await made.until_whole()
        yield made
