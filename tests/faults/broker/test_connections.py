"""Connections that break, stall or go deaf at every kind of place: what was asked for is finished all the same."""

import asyncio
import os
from typing import Any

import pytest
from pydantic import SecretStr

from tests.faults.machinery.scenario import KEY_OF_ALICE, Story, story
from tests.faults.machinery.wire import LEAVES_CONNECTIONS, CutAnywhere, CutAt, Deafen, LoseAnswer, Place, Stall
from tests.harness.proxy import Fault, Proxy, proxied
from tests.harness.site import PATIENCE, Rig
from worker.broker.nats_client import SteadyClient

pytestmark = LEAVES_CONNECTIONS
SEED = int(os.environ.get("CUT_SEED", "1"))
SEEDS = int(os.environ.get("CUT_SEEDS", "1"))

PLACES = {
    "before a notice": Place(b"HPUB chat.room.r1.event.member"),
    "inside a notice": Place(b'"type":"member_', 20),
    "before the first key": Place(KEY_OF_ALICE),
    "inside a key's subject": Place(KEY_OF_ALICE, 16),
    "before a key's size": Place(KEY_OF_ALICE, len(KEY_OF_ALICE)),
    "before a key's payload": Place(b'{"roomId":"r1","version":'),
    "inside a key's payload": Place(b'{"roomId":"r1","version":', 40),
    "between two keys": Place(b"PUB chat.user.erin.event.room.key "),
    "before a ping": Place(b"PING\r\n"),
    "inside a ping": Place(b"PING\r\n", 3),
    "after a ping": Place(b"PING\r\n", 6),
    "before a pong": Place(b"PONG\r\n", from_client=False),
    "inside a pong": Place(b"PONG\r\n", 2, from_client=False),
    "after a pong": Place(b"PONG\r\n", 6, from_client=False),
    "inside a result": Place(b"HPUB chat.user.alice.response.", 40),
    "inside an event": Place(b"X-Request-ID", 20, from_client=False),
}
TELLING = [
    "before the first key",
    "inside a key's payload",
    "between two keys",
    "inside a ping",
    "after a ping",
    "before a pong",
    "inside a result",
    "inside an event",
]
SOAK = pytest.mark.soak


async def told_through(told: Story, proxy: Proxy, fault: Fault) -> None:
    """Tell the story to a worker whose way to the broker has a fault."""
    async with told.made.worker(nats_url=[proxy.url], partitions=1):
        await told.begin()
        proxy.fault = fault
        await told.tell()
        await told.end()


@pytest.mark.parametrize(
    "name", [*TELLING, *(pytest.param(name, marks=SOAK) for name in PLACES if name not in TELLING)]
)
async def test_a_broker_connection_that_is_cut_at_a_place_loses_nothing(site_rig: Rig, name: str) -> None:
    cut = CutAt(Place(PLACES[name].pattern, PLACES[name].keep, PLACES[name].from_client))
    async with story(site_rig) as told, proxied(site_rig.settings.nats_url[0]) as proxy:
        await told_through(told, proxy, cut)
        assert cut.times == 0, "it was cut"


@pytest.mark.parametrize("seed", range(SEED, SEED + SEEDS))
async def test_a_broker_connection_that_is_cut_anywhere_loses_nothing(site_rig: Rig, seed: int) -> None:
    """After how many bytes, and of which side, is the seed's choice. `CUT_SEED` and `CUT_SEEDS` run others."""
    cuts = CutAnywhere(seed, times=3, most=1_500)
    async with story(site_rig) as told, proxied(site_rig.settings.nats_url[0]) as proxy:
        await told_through(told, proxy, cuts)
        assert cuts.times < 3, "it was cut"


@pytest.mark.parametrize("from_client", [True, False], ids=["to the broker", "from the broker"])
async def test_a_broker_connection_that_stalls_is_waited_for(site_rig: Rig, *, from_client: bool) -> None:
    """Longer than a barrier has patience, and then what was held comes through after all."""
    site_rig.limit(confirm_s=0.5)
    stall = Stall(Place(KEY_OF_ALICE if from_client else b"PONG\r\n", from_client=from_client))
    async with story(site_rig) as told, proxied(site_rig.settings.nats_url[0]) as proxy, asyncio.TaskGroup() as tasks:
        telling = tasks.create_task(told_through(told, proxy, stall))
        await asyncio.wait_for(stall.held.wait(), PATIENCE)
        await told.until_taken(2)
        stall.released.set()
        await telling


@pytest.mark.parametrize("from_client", [True, False], ids=["to the broker", "from the broker"])
async def test_a_broker_connection_that_is_half_open_is_given_up(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch, *, from_client: bool
) -> None:
    site_rig.limit(confirm_s=0.5)
    connect = SteadyClient.connect

    async def impatient(client: SteadyClient, **options: Any) -> None:
        await connect(client, **{**options, "ping_interval": 1})

    monkeypatch.setattr(SteadyClient, "connect", impatient)
    deaf = Deafen(Place(KEY_OF_ALICE if from_client else b"PONG\r\n", from_client=from_client))
    async with story(site_rig) as told, proxied(site_rig.settings.nats_url[0]) as proxy:
        await told_through(told, proxy, deaf)
        assert deaf.struck is not None


@pytest.mark.parametrize("driver", ["motor", pytest.param("pymongo", marks=SOAK)])
@pytest.mark.parametrize("spared", [0, 1], ids=["of what an event changes", "of a key's coming into use"])
@pytest.mark.parametrize("times", [3, pytest.param(1, marks=SOAK)])
@pytest.mark.parametrize("fault", [CutAt, LoseAnswer], ids=["commit not sent", "commit not answered"])
async def test_a_database_connection_that_is_cut_at_a_commit_loses_nothing(
    site_rig: Rig, fault: type[CutAt | LoseAnswer], times: int, spared: int, driver: str
) -> None:
    """Once: the driver tries again by itself. Three times: the worker is in doubt, so it takes its lease again."""
    cut = fault(Place(b"commitTransaction"), times, spared)
    async with story(site_rig) as told, proxied(site_rig.settings.mongo_uri.get_secret_value()) as proxy:
        uri = SecretStr(f"{proxy.url.partition('/?')[0]}/?directConnection=true")
        async with site_rig.worker(mongo_uri=uri, mongo_driver=driver, partitions=1):
            await told.begin()
            proxy.fault = cut
            await told.tell()
            await told.end()
        assert cut.times == 0, "it was cut"
