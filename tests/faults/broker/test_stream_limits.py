"""Limits of streams, consumers, accounts and servers: the worker keeps to them, or says which one stops it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import StreamConfig, StreamConsumerLimits
from structlog.testing import capture_logs

from roomkeys import subjects
from roomkeys.events.position import partition_of
from tests.faults.machinery.wire import LEAVES_CONNECTIONS
from tests.faults.takeover.test_replicas import shared, until_owners
from tests.harness import events
from tests.harness.health import until_not_ready, until_ready
from tests.harness.site import Rig, rig
from worker.broker.connection import BrokerUnavailable, connect
from worker.broker.jetstream.bootstrap import bootstrap_streams
from worker.local.ports import free_port
from worker.local.servers import NatsServer
from worker.settings import read_settings
from worker.telemetry import metrics

pytestmark = LEAVES_CONNECTIONS
CREATE = events.create("r1", "bob", "carol")
ROTATE = events.rotate("r1")
OTHER = next(name for name in map(str, range(100)) if partition_of(name, 2) != partition_of("r1", 2))
"""A room of another partition than r1, of two partitions."""


@asynccontextmanager
async def site_with(
    folder: Path, mongo_uri: str, database: str, site: str, jetstream: str
) -> AsyncIterator[tuple[NatsServer, Rig]]:
    """Set up a site on a server with other JetStream settings."""
    config = f"jetstream {{ store_dir: {json.dumps(str(folder / 'js'))}, {jetstream} }}"
    async with NatsServer(folder / "nats", config=config) as server, rig(server.url, mongo_uri, database, site) as made:
        yield server, made


async def change_events_stream(made: Rig, **changes: Any) -> None:
    name, subject = subjects.events_stream(made.site), subjects.events_subjects(made.site)
    await made.nc.jetstream().delete_stream(name)
    await made.nc.jetstream().add_stream(StreamConfig(name=name, subjects=[subject], **changes))


async def all_answered(made: Rig, count: int) -> None:
    """Require that a backlog of events is answered, and then one event after a pause."""
    await made.users("alice", "bob", "carol")
    asked = [await made.publish("create", CREATE)]
    asked += [await made.publish("key.rotate", ROTATE) for _ in range(count)]
    async with made.worker(partitions=2):
        assert {(await made.result(request_id))["status"] for request_id in asked} == {"ok"}
        assert (await made.ask("key.rotate", ROTATE))["status"] == "ok"
    assert (await made.room("r1"))["encKey"]["ver"] == count + 1


@pytest.mark.parametrize(
    "limits",
    [StreamConsumerLimits(30, 10), StreamConsumerLimits(0.1), StreamConsumerLimits(max_ack_pending=1)],
    ids=["30 s and 10 pending", "0.1 s", "1 pending"],
)
async def test_limits_of_the_streams_consumers_are_kept_to(site_rig: Rig, limits: StreamConsumerLimits) -> None:
    await change_events_stream(site_rig, consumer_limits=limits)
    with capture_logs() as logs:
        await all_answered(site_rig, 20)
    assert [line for line in logs if "unavailable" in line["event"]] == []


@pytest.mark.parametrize("most", [1, 7, 100])
async def test_servers_limit_of_a_pull_request_is_kept_to(
    tmp_path: Path, mongo_uri: str, database: str, site: str, most: int
) -> None:
    limits = f"limits {{ max_request_batch: {most} }}"
    with capture_logs() as logs:
        async with site_with(tmp_path, mongo_uri, database, site, limits) as (_, made):
            await all_answered(made, 150)
    assert [line for line in logs if "unavailable" in line["event"]] == []


@pytest.mark.parametrize("partitions_apart", [False, True], ids=["at the begin", "after other positions"])
async def test_one_consumer_serves_all_partitions_of_a_replica(site_rig: Rig, *, partitions_apart: bool) -> None:
    """A partition that is behind the others, or slower than they are, would like a second consumer."""
    await change_events_stream(site_rig, max_consumers=1)
    site_rig.limit(inbox_events=4, follow_s=60.0)
    await site_rig.users("alice", "bob", "carol")
    if partitions_apart:
        async with site_rig.worker(partitions=2):
            await site_rig.ask("create", CREATE)
            for _ in range(10):
                await site_rig.ask("key.rotate", ROTATE)
    asked = [await site_rig.publish("create", {**CREATE, "roomId": room}) for room in ("r1", OTHER)]
    asked += [await site_rig.publish("key.rotate", events.rotate(room)) for room in 20 * ["r1"] + 20 * [OTHER]]
    async with site_rig.worker(partitions=2, max_batch_events=1):
        assert {(await site_rig.result(request_id))["status"] for request_id in asked} == {"ok"}
        assert (await site_rig.ask("key.rotate", events.rotate(OTHER)))["status"] == "ok"
    assert (await site_rig.room(OTHER))["encKey"]["ver"] == 21
    assert (await site_rig.room("r1"))["encKey"]["ver"] == (30 if partitions_apart else 20)


async def test_replica_without_a_consumer_leaves_its_partitions_and_says_why_until_it_gets_one(site_rig: Rig) -> None:
    await change_events_stream(site_rig, max_consumers=1)
    site_rig.limit(lease_ms=1_000)
    await site_rig.users("alice", "bob", "carol")
    address = f"127.0.0.1:{free_port()}"
    with capture_logs() as logs:
        async with site_rig.worker() as stop_first:
            assert (await site_rig.ask("create", CREATE))["status"] == "ok"
            async with site_rig.worker(health_addr=address):
                await until_not_ready(address, "maximum consumers limit reached (JetStream error 10026)")
                await until_owners(site_rig, lambda seen: shared(seen, 1), "the first owns all")
                for number in range(16):
                    assert (await site_rig.ask("create", {**CREATE, "roomId": f"r{number}"}))["status"] == "ok"
                stop_first.set()
                await until_ready(address)
                assert (await site_rig.ask("key.rotate", ROTATE))["status"] == "ok"
    assert len(reading(logs)) <= 16, [(line["event"], line.get("cause")) for line in reading(logs)]


def reading(logs: list[Any]) -> list[Any]:
    return [line for line in logs if line["event"].startswith("events stream")]


@pytest.mark.parametrize("limits", ['limits { duplicate_window: "1m" }', "max_file: 10MB, max_mem: 10MB"])
async def test_streams_are_created_within_the_servers_limits(
    tmp_path: Path, mongo_uri: str, database: str, site: str, limits: str
) -> None:
    async with site_with(tmp_path, mongo_uri, database, site, limits) as (_, made):
        for name in (subjects.events_stream(site), subjects.dead_letter_stream(site)):
            await made.nc.jetstream().delete_stream(name)
        await made.users("alice", "bob", "carol")
        async with made.worker():
            await made.until_owned()
            assert (await made.ask("create", CREATE))["status"] == "ok"


async def test_stream_that_the_server_does_not_allow_is_refused_in_its_own_words(tmp_path: Path, site: str) -> None:
    config = "accounts { A: { users: [{user: a, password: a}], jetstream: { max_streams: 1 } } }, no_auth_user: a"
    async with NatsServer(tmp_path / "nats", config=config) as server:
        broker = await connect(read_settings(nats_url=server.url, site_id=site), "test")
        with pytest.raises(BrokerUnavailable, match=r"maximum number of streams reached \(JetStream error 10027\)"):
            await bootstrap_streams(broker, site)
        await broker.close()


async def test_deleted_stream_is_created_again_under_bootstrap(site_rig: Rig) -> None:
    faults = metrics.STREAM_FAULTS._value.get()
    await site_rig.users("alice", "bob", "carol")
    async with site_rig.worker():
        await site_rig.ask("create", CREATE)
        await site_rig.nc.jetstream().delete_stream(subjects.events_stream(site_rig.site))
        await until_exists(site_rig)
        assert (await site_rig.ask("key.rotate", ROTATE))["status"] == "ok"
    assert metrics.STREAM_FAULTS._value.get() > faults


async def until_exists(made: Rig) -> None:
    jetstream, found = made.nc.jetstream(), list[str]()

    async def look() -> None:
        found.extend(info.config.name or "" for info in await jetstream.streams_info())

    while subjects.events_stream(made.site) not in found:
        await look()


async def test_deleted_stream_is_named_until_somebody_creates_it(site_rig: Rig) -> None:
    name = subjects.events_stream(site_rig.site)
    missing = f"stream {name} does not exist: create it, or restart with BOOTSTRAP_STREAMS=true"
    site_rig.limit(lease_ms=1_000)
    address, jetstream = f"127.0.0.1:{free_port()}", site_rig.nc.jetstream()
    faults = metrics.STREAM_FAULTS._value.get()
    await site_rig.users("alice", "bob", "carol")
    with capture_logs() as logs:
        async with site_rig.worker(bootstrap_streams=False, health_addr=address):
            await site_rig.ask("create", CREATE)
            await jetstream.delete_stream(name)
            await until_not_ready(address, missing)
            assert metrics.STREAM_FAULTS._value.get() == faults + 1
            assert len([line for line in logs if line.get("cause") == missing]) == 1
            await jetstream.add_stream(StreamConfig(name=name, subjects=[subjects.events_subjects(site_rig.site)]))
            await until_ready(address)
            assert (await site_rig.ask("key.rotate", ROTATE))["status"] == "ok"
