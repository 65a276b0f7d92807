"""Clusters whose members give way or die while a worker is at work: nothing is lost."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from roomkeys.subjects import events_stream
from tests.faults.machinery.scenario import story
from tests.harness.clusters import (
    MEMBERS,
    MONGO_NAMES,
    NATS_NAMES,
    MongoSet,
    NatsCluster,
    leader_of,
    mongo_set,
    nats_cluster,
)
from tests.harness.memory import data_in
from tests.harness.processes import child, ends_well, says
from tests.harness.site import rig

SOAK = pytest.mark.soak
pytestmark = pytest.mark.asyncio(loop_scope="session")  # that of the servers, which the tests kill


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def three_mongos(tmp_path_factory: pytest.TempPathFactory, memory_root: Path | None) -> AsyncIterator[MongoSet]:
    folder = tmp_path_factory.mktemp("mongos")
    with data_in(memory_root, *(folder / name for name in MONGO_NAMES)):
        async with mongo_set(folder) as made:
            yield made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def three_nats(tmp_path_factory: pytest.TempPathFactory, memory_root: Path | None) -> AsyncIterator[NatsCluster]:
    folder = tmp_path_factory.mktemp("nats")
    with data_in(memory_root, *(folder / name for name in NATS_NAMES)):
        async with nats_cluster(folder) as made:
            yield made


@pytest.mark.parametrize("place", ["commitTransaction:before:1", pytest.param("update:after:3", marks=SOAK)])
async def test_a_primary_that_steps_down_at_work_loses_nothing(
    nats_url: str, three_mongos: MongoSet, site: str, place: str
) -> None:
    async with rig(nats_url, three_mongos.uri, f"test_{site}", site) as made, story(made) as told:
        async with made.worker(partitions=1):
            await told.begin()
        async with child(made, PARTITIONS="1", AT_COMMAND=place, DO="stop") as worker:
            await told.tell()
            await says(worker, place.rpartition(":")[0])
            await three_mongos.step_down()
            worker.send_signal(signal.SIGCONT)
            await told.end()
            await ends_well(worker)


async def test_a_primary_that_is_killed_at_work_loses_nothing(nats_url: str, three_mongos: MongoSet, site: str) -> None:
    async with rig(nats_url, three_mongos.uri, f"test_{site}", site) as made, story(made) as told:
        async with made.worker(partitions=1):
            await told.begin()
        async with child(made, PARTITIONS="1", AT_STEP="deliver:after:1", DO="stop") as worker:
            await told.tell()
            await says(worker, "deliver:after")
            primary = await three_mongos.primary()
            await primary.kill()
            worker.send_signal(signal.SIGCONT)
            await told.end()
            await ends_well(worker)
            await primary.start()


@pytest.mark.parametrize("whose", ["the stream's leader", "the worker's own"])
@pytest.mark.parametrize("place", ["deliver:before:1", pytest.param("deliver:after:1", marks=SOAK)])
async def test_a_server_of_the_broker_that_is_killed_at_work_loses_nothing(
    three_nats: NatsCluster, mongo_uri: str, database: str, site: str, whose: str, place: str
) -> None:
    """The recorder keeps to the first server, and the worker to the others, of which one dies."""
    first, *others = three_nats.servers.values()
    async with rig(first.url, mongo_uri, database, site, replicas=MEMBERS) as made, story(made, in_order=False) as told:
        async with made.worker(partitions=1):
            await told.begin()
        urls = ",".join(server.url for server in others)
        async with child(made, PARTITIONS="1", NATS_URL=urls, AT_STEP=place, DO="stop") as worker:
            await told.tell()
            await says(worker, place.rpartition(":")[0])
            if whose == "the worker's own":
                name = await three_nats.server_of("room-worker")
            else:
                name = await leader_of(first.url, events_stream(site), lambda leader: leader != "n0")
            await three_nats.servers[name].kill()
            worker.send_signal(signal.SIGCONT)
            await told.end()
            await ends_well(worker)
        await three_nats.servers[name].start()
        await three_nats.until_whole()
