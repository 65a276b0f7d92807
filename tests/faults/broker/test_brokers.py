"""A broker that restarts, dies, takes nothing or refuses: everybody it lets be reached is reached."""

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.faults.machinery.scenario import KEY_OF_ALICE, caught_up, story
from tests.faults.machinery.wire import LEAVES_CONNECTIONS, Place, Stall
from tests.harness.processes import child, ends_well, says
from tests.harness.proxy import proxied
from tests.harness.site import PATIENCE, Rig, rig
from worker.local.ports import HOST
from worker.local.servers import NatsServer
from worker.telemetry import metrics

pytestmark = LEAVES_CONNECTIONS
SEED = int(os.environ.get("KILL_SEED", "1"))
SEEDS = int(os.environ.get("KILL_SEEDS", "1"))
CROWD = 40_000
USERS = """
authorization { users: [
  { user: test, password: test }
  { user: worker, password: secret, permissions: { publish: { deny: ["chat.user.carol.event.room.key"] } } }
] }
"""


MOMENTS = [("deliver:before:1", "kill"), ("deliver:after:1", "stop")]
MORE = [
    ("apply:before:1", "kill"),
    ("apply:before:1", "stop"),
    ("deliver:after:1", "kill"),
    ("announce:after:1", "kill"),
]


@pytest.mark.parametrize(("place", "end"), [*MOMENTS, *(pytest.param(*one, marks=pytest.mark.soak) for one in MORE)])
async def test_a_broker_that_is_away_for_a_moment_at_a_step_loses_nothing(
    own_nats: NatsServer, mongo_uri: str, database: str, site: str, place: str, end: str
) -> None:
    async with rig(own_nats.url, mongo_uri, database, site) as made, story(made) as told:
        async with made.worker(partitions=1):
            await told.begin()
        async with child(made, PARTITIONS="1", AT_STEP=place, DO="stop") as worker:
            await told.tell()
            await says(worker, place.rpartition(":")[0])
            await caught_up(made)  # the recorder has heard what there was to hear
            await getattr(own_nats, end)()
            await own_nats.start()
            await caught_up(made)
            worker.send_signal(signal.SIGCONT)
            await told.end()
            await ends_well(worker)


@pytest.mark.parametrize("seed", range(SEED, SEED + SEEDS))
async def test_a_broker_that_is_killed_within_a_moment_of_work_replays_nothing_into_the_rooms(
    own_nats: NatsServer, mongo_uri: str, database: str, site: str, seed: int
) -> None:
    """When, is the seed's choice; the recorder is away as well. `KILL_SEED` and `KILL_SEEDS` run others."""
    chance = random.Random(seed)  # noqa: S311 - a plan
    async with (
        rig(own_nats.url, mongo_uri, database, site) as made,
        story(made, recorded=False) as told,
        made.worker(partitions=1, max_batch_events=chance.choice([1, 256])),
    ):
        await told.begin()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(told.tell())
            await asyncio.sleep(chance.uniform(0, 0.1))
            await own_nats.kill()
            await own_nats.start()
        await caught_up(made)
        await told.end(unheard=True)


async def test_a_broker_that_takes_nothing_any_more_is_waited_for_and_the_crowd_served_after(site_rig: Rig) -> None:
    """The client's buffer fills up, the worker sees that, and does not fill it without bound."""
    site_rig.limit(confirm_s=0.5, write_buffer_bytes=512 * 1024)
    stall = Stall(Place(KEY_OF_ALICE))
    async with story(site_rig) as told, proxied(site_rig.settings.nats_url[0]) as proxy:
        async with site_rig.worker(nats_url=[proxy.url], partitions=1):
            await told.begin()
            await crowd(site_rig)
            proxy.fault = stall
            await told.tell()
            await asyncio.wait_for(stall.held.wait(), PATIENCE)
            await told.until_taken(2)
            stall.released.set()
            await told.end()
        await site_rig.db.subscriptions.delete_many({"u.account": {"$regex": "^c[0-9]"}})
    assert all(site_rig.keys(f"c{number}") for number in (0, CROWD // 2, CROWD - 1))


async def crowd(made: Rig) -> None:
    """Let a crowd into the room without telling anybody."""
    one = await made.db.subscriptions.find_one({"u.account": "erin"}, {"_id": 0})
    for start in range(0, CROWD, 10_000):
        accounts = [f"c{number}" for number in range(start, start + 10_000)]
        people = [{"id": f"u-{account}", "account": account, "isBot": False} for account in accounts]
        await made.db.subscriptions.insert_many([{**one, "_id": who["id"], "u": who} for who in people])


async def test_a_recipient_whom_the_broker_refuses_keeps_nobody_from_the_key(
    tmp_path: Path, mongo_uri: str, database: str, site: str
) -> None:
    async with NatsServer(tmp_path / "nats", config=USERS) as server:
        url = f"nats://test:test@{HOST}:{server.port}"
        async with rig(url, mongo_uri, database, site) as made, story(made) as told:
            before = broker_errors()
            user = {"nats_url": [server.url], "nats_user": "worker", "nats_password": SecretStr("secret")}
            async with made.worker(**user, partitions=1):
                await told.begin()
                await told.tell()
                await told.end()
            assert made.keys("carol") == [], "who is refused is refused"
            assert broker_errors() > before, "and somebody can see it"


def broker_errors() -> float:
    samples = (sample for metric in metrics.BROKER_ERRORS.collect() for sample in metric.samples)
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))
