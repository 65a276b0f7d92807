"""The servers that all tests share, and what one test needs of them for itself."""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import asynccontextmanager, closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import nats
import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient

from tests.harness.site import Rig, rig
from worker.local.mongo_replica_set import answers as mongo_answers
from worker.local.servers import MongoServer, NatsServer, local_servers, nats_answers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from nats.aio.client import Client

NATS_IMAGE = os.environ.get("NATS_IMAGE", "nats:2.12")
MONGO_IMAGE = os.environ.get("MONGO_IMAGE", "mongo:7")
PING = b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n"


class Addresses(NamedTuple):
    nats: str
    mongo: str


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Addresses]:
    """Start them in containers where a Docker API answers, else as processes of this machine."""
    if await docker_answers():
        async with containers() as addresses:
            yield addresses
    else:
        async with local_servers(tmp_path_factory.mktemp("servers")) as (nats_server, mongo_server):
            yield Addresses(nats_server.url, mongo_server.uri)


@pytest.fixture(scope="session")
def nats_url(servers: Addresses) -> str:
    return servers.nats


@pytest.fixture(scope="session")
def mongo_uri(servers: Addresses) -> str:
    return servers.mongo


@pytest.fixture
def site() -> str:
    """Name a site of this test's own, so that its streams meet no other's."""
    return f"s{secrets.token_hex(4)}"


@pytest.fixture
async def database(mongo_uri: str) -> AsyncIterator[str]:
    name = f"test_{secrets.token_hex(4)}"
    yield name
    async with AsyncMongoClient[dict[str, object]](mongo_uri, serverMonitoringMode="poll") as client:
        # A worker that was killed inside a transaction would hold up the end of its database for a minute.
        await client.admin.command("killAllSessions", [])
        await client.drop_database(name)


@pytest.fixture
async def nc(nats_url: str) -> AsyncIterator[Client]:
    client = await nats.connect(nats_url)
    yield client
    await client.close()


@pytest.fixture
async def own_nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """Start a server to kill."""
    server = NatsServer(tmp_path / "nats")
    await server.start()
    yield server
    await server.kill()


@pytest.fixture
async def own_mongo(tmp_path: Path) -> AsyncIterator[MongoServer]:
    """Start a server to kill, or to hinder by fail points."""
    server = MongoServer(tmp_path / "mongo", test_commands=True)
    await server.start()
    yield server
    await server.kill()  # a polite end takes a second


async def docker_answers() -> bool:
    """Whether a Docker API answers a ping within a second."""
    url = urlsplit(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")
    try:
        async with asyncio.timeout(1):
            if url.scheme == "unix":
                reader, writer = await asyncio.open_unix_connection(url.path)
            else:
                reader, writer = await asyncio.open_connection(url.hostname, url.port)
            with closing(writer):
                writer.write(PING)
                status = await reader.readline()
    except (OSError, TimeoutError, ValueError):
        return False
    return b" 200 " in status


@asynccontextmanager
async def containers() -> AsyncIterator[Addresses]:
    with (
        container(NATS_IMAGE, "-js", 4222) as (host, nats_port),
        container(MONGO_IMAGE, "--replSet rs0 --bind_ip_all", 27017) as (_, mongo_port),
    ):
        await until(lambda: nats_answers(host, nats_port))
        # The member's name is its own view of itself; directConnection keeps clients from following it.
        await until(lambda: mongo_answers(host, mongo_port, member="127.0.0.1:27017"))
        yield Addresses(f"nats://{host}:{nats_port}", f"mongodb://{host}:{mongo_port}/?directConnection=true")


@contextmanager
def container(image: str, command: str, port: int) -> Iterator[tuple[str, int]]:
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - slow, and needs Docker

    with DockerContainer(image).with_command(command).with_exposed_ports(port) as started:
        yield started.get_container_host_ip(), started.get_exposed_port(port)


async def until(answers: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while True:
            if await answers():
                return
            await asyncio.sleep(0.05)


@pytest.fixture
async def site_rig(nats_url: str, mongo_uri: str, database: str, site: str) -> AsyncIterator[Rig]:
    """Set up a site of its own, without a worker."""
    async with rig(nats_url, mongo_uri, database, site) as made:
        yield made
