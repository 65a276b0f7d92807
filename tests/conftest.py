"""The servers that the tests of one process share, and what each test needs for itself."""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats
import pytest
import pytest_asyncio
import structlog
from nats.aio.client import Client

from tests.harness.databases import SharedDatabase, shared_database
from tests.harness.memory import data_in, memory
from tests.harness.servers import Addresses, running_servers
from tests.harness.site import Rig, rig
from worker.local.servers import MongoServer, NatsServer


@pytest.fixture(autouse=True)
def _same_logs_for_every_test() -> Iterator[None]:
    """Undo what a test, or a command that runs in it, configures for logs: later tests look at lines too."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def memory_root() -> Iterator[Path | None]:
    """Make a folder in memory for the servers' data; None where there is no room for it."""
    with memory() as root:
        yield root


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory, memory_root: Path | None) -> AsyncIterator[Addresses]:
    """Start the two servers: in containers where a Docker API answers, else as processes of this machine."""
    async with running_servers(tmp_path_factory.mktemp("servers"), memory_root) as addresses:
        yield addresses


@pytest.fixture(scope="session")
def nats_url(servers: Addresses) -> str:
    return servers.nats


@pytest.fixture(scope="session")
def mongo_uri(servers: Addresses) -> str:
    return servers.mongo


@pytest.fixture
def site() -> str:
    """Name a site that no other test has, so that its streams and requests are its own."""
    return f"s{secrets.token_hex(4)}"


@pytest.fixture(scope="session")
def process_database(mongo_uri: str) -> Iterator[SharedDatabase]:
    """Connect to the database that the tests of this process share."""
    with shared_database(mongo_uri) as shared:
        yield shared


@pytest.fixture
def database(process_database: SharedDatabase) -> str:
    """Name a database without documents; its collections and indexes may be there already."""
    process_database.empty()
    return process_database.name


@pytest.fixture
def new_database() -> str:
    """Name a database that does not exist yet. It stays until the server ends: to drop it takes 0.1 s."""
    return f"test_{secrets.token_hex(4)}"


@pytest.fixture
async def nc(nats_url: str) -> AsyncIterator[Client]:
    client = await nats.connect(nats_url)
    yield client
    await client.close()


@pytest.fixture
async def own_nats(tmp_path: Path, memory_root: Path | None) -> AsyncIterator[NatsServer]:
    """Start a server to kill."""
    server = NatsServer(tmp_path / "nats")
    with data_in(memory_root, server.folder):
        await server.start()
        yield server
        await server.kill()


@pytest.fixture
async def own_mongo(tmp_path: Path, memory_root: Path | None) -> AsyncIterator[MongoServer]:
    """Start a server to kill, or to hinder by fail points."""
    server = MongoServer(tmp_path / "mongo", test_commands=True)
    with data_in(memory_root, server.folder):
        await server.start()
        yield server
        await server.kill()  # a polite end takes a second


@pytest.fixture
async def site_rig(nats_url: str, mongo_uri: str, database: str, site: str) -> AsyncIterator[Rig]:
    """Set up a site without a worker."""
    async with rig(nats_url, mongo_uri, database, site) as made:
        yield made
