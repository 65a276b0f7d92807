"""A partition that stands is seen: `/readyz` says why, and metrics say how many events wait and for how long."""

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from prometheus_client import Gauge
from pydantic import SecretStr
from structlog.testing import capture_logs

from roomkeys import subjects
from roomkeys.events.position import partition_of
from tests.faults.machinery.wire import LEAVES_CONNECTIONS
from tests.faults.takeover.test_hand_over import LIMITED, PULL, USER, reload, site_with_guarded_mongo, users
from tests.faults.takeover.test_replicas import CREATE
from tests.harness import events
from tests.harness.databases import NAME
from tests.harness.health import readiness, until_not_ready, until_ready
from tests.harness.polling import until
from tests.harness.site import Rig, rig
from worker.local.ports import free_port
from worker.local.servers import MongoServer, NatsServer
from worker.telemetry import metrics

pytestmark = LEAVES_CONNECTIONS

ROTATE = events.rotate("r1")


def value(gauge: Gauge) -> float:
    return float(gauge._value.get())


async def until_pending(events: int) -> None:
    await until(lambda: value(metrics.PENDING) == events, lambda: value(metrics.PENDING))


@contextmanager
def paused(server: MongoServer) -> Iterator[None]:
    """Stop the server's process for the length of the block; connections to it stay open."""
    process = server._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def ready_worker(made: Rig, **changes: object) -> AsyncIterator[str]:
    """Run a worker with a short lease that has created a room; yield the address of `/readyz`."""
    made.limit(lease_ms=1_500)
    address = f"127.0.0.1:{free_port()}"
    if not await made.db.users.count_documents({}):
        await made.users("alice", "bob", "carol")
    async with made.worker(health_addr=address, **changes):
        assert (await made.ask("create", CREATE))["status"] == "ok"
        await until_ready(address)
        yield address


async def test_mongodb_that_does_not_answer_is_named_until_it_does(
    nats_url: str, own_mongo: MongoServer, site: str
) -> None:
    async with rig(nats_url, own_mongo.uri, "chat", site) as made, ready_worker(made) as address:
        await until_pending(0)
        with paused(own_mongo):
            asked = [await made.publish("key.rotate", ROTATE) for _ in range(5)]
            await until_not_ready(address, "MongoDB does not answer")
            await until_not_ready(address, "has not moved for")
            await until_pending(5)
            assert value(metrics.OLDEST) > 1.5
            assert value(metrics.DATABASE_UP) == 0
        for request_id in asked:
            assert (await made.result(request_id))["status"] == "ok"
        await until_ready(address)
        await until_pending(0)
        await until(lambda: value(metrics.OLDEST) == 0 and value(metrics.DATABASE_UP) == 1)


async def test_mongodb_that_is_down_is_named_although_no_event_waits(
    nats_url: str, own_mongo: MongoServer, site: str
) -> None:
    async with rig(nats_url, own_mongo.uri, "chat", site) as made, ready_worker(made) as address:
        await own_mongo.kill()
        await until_not_ready(address, "mongodb")
        await own_mongo.start()
        await until_ready(address)


async def test_outage_of_mongodb_has_a_line_at_its_begin_and_at_its_end(
    nats_url: str, own_mongo: MongoServer, site: str
) -> None:
    """Also with many partitions, whose attempts fail too; a line more for each further cause."""
    async with rig(nats_url, own_mongo.uri, "chat", site) as made:
        with capture_logs() as logs:
            async with ready_worker(made, partitions=32) as address:
                await own_mongo.kill()
                asked = [await made.publish("key.rotate", ROTATE) for _ in range(3)]
                await until_not_ready(address, "has not moved for")
                await own_mongo.start()
                for request_id in asked:
                    assert (await made.result(request_id))["status"] == "ok"
                await until_ready(address)
        outage = [line for line in logs if line["event"].startswith("MongoDB ")]
        assert outage[0]["event"] == "MongoDB unavailable"
        assert outage[-1]["event"] == "MongoDB available again"
        assert outage[-1]["seconds"] > 0
        assert len({line["cause"] for line in outage[:-1]}) == len(outage) - 1
        others = [line["event"] for line in logs if line["log_level"] == "warning" and line not in outage]
        assert len(others) <= 1, "at most that other replicas may take the partitions"


async def test_database_that_refuses_writes_is_named_with_its_code(
    nats_url: str, own_mongo: MongoServer, site: str
) -> None:
    async with rig(nats_url, own_mongo.uri, "chat", site) as made, ready_worker(made) as address:
        await made.db.client.admin.command("setUserWriteBlockMode", 1, **{"global": True})
        asked = await made.publish("key.rotate", ROTATE)
        await until_not_ready(address, "371 UserWritesBlocked")
        await made.db.client.admin.command("setUserWriteBlockMode", 1, **{"global": False})
        assert (await made.result(asked))["status"] == "ok"
        await until_ready(address)


async def test_partition_that_a_missing_right_holds_up_is_named_with_its_number(
    nats_url: str, tmp_path: Path, site: str
) -> None:
    async with site_with_guarded_mongo(nats_url, tmp_path / "mongo", site) as (server, made):
        limited = SecretStr(server.uri(LIMITED))
        async with ready_worker(made, partitions=4, mongo_uri=limited) as address:
            await server.revoke(LIMITED, NAME, "rooms", "update")
            asked = await made.publish("key.rotate", ROTATE)
            await until_not_ready(address, f"partition {partition_of('r1', 4)} has not moved for")
            _, body = await readiness(address)
            assert "OperationFailure 13 Unauthorized" in body["for"]["partitions"]
            await server.grant(LIMITED, NAME, "rooms", "update")
            assert (await made.result(asked))["status"] == "ok"
            await until_ready(address)


async def test_events_that_cannot_be_read_are_pending_and_grow_old(
    tmp_path: Path, mongo_uri: str, database: str, site: str
) -> None:
    async with (
        NatsServer(tmp_path / "nats", config=users()) as server,
        rig(server.url, mongo_uri, database, site) as made,
        ready_worker(made, **USER) as address,
    ):
        await server.kill()
        server.config = users(PULL)
        await server.start()
        await until_not_ready(address, "no heartbeat from JetStream")
        asked = [await made.publish("key.rotate", ROTATE) for _ in range(3)]
        await until_pending(3)
        await until(lambda: value(metrics.OLDEST) > 1, lambda: value(metrics.OLDEST))
        await reload(server, users())
        for request_id in asked:
            assert (await made.result(request_id))["status"] == "ok"
        await until_pending(0)
        await until_ready(address)


async def test_backlog_counts_what_no_inbox_has_taken(nats_url: str, own_mongo: MongoServer, site: str) -> None:
    async with rig(nats_url, own_mongo.uri, "chat", site) as made:
        made.limit(inbox_events=2, pull_messages=4)
        async with ready_worker(made, partitions=1) as address:
            with paused(own_mongo):
                asked = [await made.publish("key.rotate", ROTATE) for _ in range(30)]
                await until_pending(30)
            for request_id in asked:
                await made.result(request_id)
            await until_pending(0)
            await until_ready(address)


@pytest.mark.parametrize("partitions", [1, 8])
async def test_messages_of_other_services_are_not_pending(site_rig: Rig, partitions: int) -> None:
    async with ready_worker(site_rig, partitions=partitions):
        for number in range(20):
            await site_rig.nc.jetstream().publish(subjects.event_subject(site_rig.site, f"r{number}.rename"), b"{}")
        await site_rig.ask("key.rotate", ROTATE)
        await until_pending(0)
        assert value(metrics.OLDEST) == 0
