"""What tests of faults share."""

import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.harness.databases import SharedDatabase, shared_database
from tests.harness.memory import data_in
from tests.harness.site import Rig, rig
from worker.local.servers import MongoServer


@pytest.fixture
def garbage_collected() -> Iterator[None]:
    """Let what the test has left for the garbage collector be its own affair, not a later test's."""
    yield
    gc.collect()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mongo_to_hinder(
    tmp_path_factory: pytest.TempPathFactory, memory_root: Path | None
) -> AsyncIterator[MongoServer]:
    """Start a server that takes fail points."""
    server = MongoServer(tmp_path_factory.mktemp("hindered"), test_commands=True)
    with data_in(memory_root, server.folder):
        await server.start()
        yield server
        await server.kill()


@pytest.fixture(scope="session")
def hindered_database(mongo_to_hinder: MongoServer) -> Iterator[SharedDatabase]:
    """Connect to the database of that server that the tests of this process share."""
    with shared_database(mongo_to_hinder.uri) as shared:
        yield shared


@pytest.fixture
async def hindered(
    nats_url: str, mongo_to_hinder: MongoServer, hindered_database: SharedDatabase, site: str
) -> AsyncIterator[Rig]:
    """Set up a site whose database can be hindered; in the end nothing hinders it any more."""
    hindered_database.empty()
    async with rig(nats_url, mongo_to_hinder.uri, hindered_database.name, site) as made:
        yield made
        await made.db.client.admin.command("configureFailPoint", "failCommand", mode="off")
