"""The NATS server and the MongoDB that the tests of one process share.

They run in containers where a Docker API answers, else as processes of this machine.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.harness.memory import data_in
from tests.harness.polling import until_answered
from worker.local.mongo_replica_set import answers as mongo_answers
from worker.local.servers import local_servers, nats_answers

NATS_IMAGE = os.environ.get("NATS_IMAGE", "nats:2.12")
MONGO_IMAGE = os.environ.get("MONGO_IMAGE", "mongo:7")
PING = b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n"


class Addresses(NamedTuple):
    """Where a client finds the two servers."""

    nats: str
    mongo: str


@asynccontextmanager
async def running_servers(folder: Path, memory_root: Path | None) -> AsyncIterator[Addresses]:
    """Run both servers for the length of the block; local ones log to `folder`."""
    if await docker_answers():
        async with containers() as addresses:
            yield addresses
        return
    with data_in(memory_root, folder / "nats", folder / "mongo"):
        async with local_servers(folder) as (nats_server, mongo_server):
            yield Addresses(nats_server.url, mongo_server.uri)


async def docker_answers() -> bool:
    """Return whether a Docker API answers a ping within a second."""
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
    """Run both servers in containers."""
    with (
        container(NATS_IMAGE, "-js", 4222) as (host, nats_port),
        container(MONGO_IMAGE, "--replSet rs0 --bind_ip_all", 27017) as (_, mongo_port),
    ):
        await until_answered(lambda: nats_answers(host, nats_port))
        # The member's name is its own view of itself; directConnection keeps clients from following it.
        await until_answered(lambda: mongo_answers(host, mongo_port, member="127.0.0.1:27017"))
        yield Addresses(f"nats://{host}:{nats_port}", f"mongodb://{host}:{mongo_port}/?directConnection=true")


@contextmanager
def container(image: str, command: str, port: int) -> Iterator[tuple[str, int]]:
    """Run one container; yield the host and the port where its port can be reached."""
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - slow, and needs Docker

    with DockerContainer(image).with_command(command).with_exposed_ports(port) as started:
        yield started.get_container_host_ip(), started.get_exposed_port(port)
