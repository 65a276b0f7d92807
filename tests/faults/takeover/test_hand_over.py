"""A replica that cannot read or cannot write: others take its partitions, and it takes its share again afterwards.

With one replica, only its readiness changes. (docs/design.md, "Blame")
"""

import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import orjson
import pytest
from pydantic import SecretStr

from store.database import connect
from store.setup.indexes import ensure_indexes
from tests.faults.database.test_requirements import FULL, with_lists
from tests.faults.machinery.wire import LEAVES_CONNECTIONS
from tests.faults.takeover.test_replicas import CREATE, owners, shared, until_owners
from tests.harness import events
from tests.harness.databases import NAME
from tests.harness.health import until_not_ready, until_ready
from tests.harness.mongo_users import GuardedMongo, guarded_mongo
from tests.harness.polling import until
from tests.harness.proxy import proxied
from tests.harness.site import Rig, rig
from worker.local.ports import free_port
from worker.local.servers import NatsServer

pytestmark = LEAVES_CONNECTIONS

ROOMS = [f"r{number}" for number in range(32)]
USER = {"nats_user": "worker", "nats_password": SecretStr("secret")}
LIMITED = "limited"
"""A user of MongoDB from whom rights are taken."""
PULL = "$JS.API.CONSUMER.MSG.NEXT.>"
CREATE_CONSUMER = "$JS.API.CONSUMER.CREATE.>"


def users(*denied: str) -> str:
    """Return a configuration in which the user `worker` may not publish to these subjects."""
    worker = {"user": "worker", "password": "secret", "permissions": {"publish": {"deny": denied}}}
    everybody = [{"user": "test", "password": "secret"}, worker]
    return f"authorization: {orjson.dumps({'users': everybody}).decode()}\nno_auth_user: test"


async def reload(server: NatsServer, config: str) -> None:
    server.config = config
    server._prepare()
    assert server._process is not None
    before = server._log.read_text().count("Reloaded server configuration")
    server._process.send_signal(signal.SIGHUP)
    await until(lambda: server._log.read_text().count("Reloaded server configuration") > before)


@pytest.fixture
async def nats_with_users(
    tmp_path: Path, mongo_uri: str, database: str, site: str
) -> AsyncIterator[tuple[NatsServer, Rig]]:
    async with (
        NatsServer(tmp_path / "nats", config=users()) as server,
        rig(server.url, mongo_uri, database, site) as made,
    ):
        made.limit(lease_ms=2_000)
        await made.users("alice", "bob", "carol")
        yield server, made


async def rotate_all(made: Rig) -> None:
    """Rotate rooms of all partitions and wait for the results."""
    for request_id in [await made.publish("key.rotate", events.rotate(room)) for room in ROOMS]:
        assert (await made.result(request_id))["status"] == "ok"


async def create_all(made: Rig) -> None:
    for request_id in [await made.publish("create", {**CREATE, "roomId": room}) for room in ROOMS]:
        assert (await made.result(request_id))["status"] == "ok"


@pytest.mark.parametrize("denied", [PULL, CREATE_CONSUMER])
async def test_replica_that_may_not_read_the_stream_leaves_its_partitions_to_another(
    nats_with_users: tuple[NatsServer, Rig], denied: str
) -> None:
    server, made = nats_with_users
    address = f"127.0.0.1:{free_port()}"
    async with (
        proxied(server.url) as proxy,
        made.worker(nats_url=[proxy.url], health_addr=address, **USER),
        made.worker(),
    ):
        await until_owners(made, lambda seen: shared(seen, 2), "both own half")
        await create_all(made)
        await until_ready(address)
        await reload(server, users(denied))
        proxy.cut()
        await until_not_ready(address, "events")
        await until_owners(made, lambda seen: shared(seen, 1), "the one that may read owns all")
        await rotate_all(made)
        await reload(server, users())
        await until_ready(address)
        await until_owners(made, lambda seen: shared(seen, 2), "both own half again")
        await rotate_all(made)


async def test_only_replica_keeps_its_partitions_while_it_may_not_read_the_stream(
    nats_with_users: tuple[NatsServer, Rig],
) -> None:
    server, made = nats_with_users
    address = f"127.0.0.1:{free_port()}"
    async with proxied(server.url) as proxy, made.worker(nats_url=[proxy.url], health_addr=address, **USER):
        await until_owners(made, lambda seen: shared(seen, 1), "it owns all")
        await create_all(made)
        before = await owners(made)
        await reload(server, users(PULL))
        proxy.cut()
        await until_not_ready(address, "no heartbeat from JetStream")
        asked = await made.publish("key.rotate", events.rotate("r1"))
        await reload(server, users())
        assert (await made.result(asked))["status"] == "ok"
        await until_ready(address)
        assert await owners(made) == before


@asynccontextmanager
async def site_with_guarded_mongo(nats_url: str, folder: Path, site: str) -> AsyncIterator[tuple[GuardedMongo, Rig]]:
    async with guarded_mongo(folder) as server:
        async with AsyncExitStack() as stack:
            database = connect(server.uri(), NAME)
            stack.push_async_callback(database.close)
            await ensure_indexes(database)
        await server.user(LIMITED, NAME, with_lists(FULL))
        async with rig(nats_url, server.uri(), NAME, site) as made:
            made.limit(lease_ms=2_000)
            await made.users("alice", "bob", "carol")
            yield server, made


@pytest.mark.parametrize("others", [0, 1])
async def test_replica_that_may_not_write_leaves_its_partitions_to_another_if_there_is_one(
    nats_url: str, tmp_path: Path, site: str, others: int
) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with site_with_guarded_mongo(nats_url, tmp_path / "mongo", site) as (server, made):
        limited = SecretStr(server.uri(LIMITED))
        async with made.worker(mongo_uri=limited, health_addr=address):
            await until_owners(made, lambda seen: shared(seen, 1), "it owns all")
            async with made.worker() if others else nothing():
                await until_owners(made, lambda seen: shared(seen, 1 + others), "they share")
                await create_all(made)
                await until_ready(address)
                await server.revoke(LIMITED, NAME, "rooms", "update")
                asked = [await made.publish("key.rotate", events.rotate(room)) for room in ROOMS]
                await until_not_ready(address, "OperationFailure 13")
                if others:
                    await until_owners(made, lambda seen: shared(seen, 1), "the one that may write owns all")
                else:
                    await server.grant(LIMITED, NAME, "rooms", "update")
                for request_id in asked:
                    assert (await made.result(request_id))["status"] == "ok"
                await server.grant(LIMITED, NAME, "rooms", "update")
                await until_owners(made, lambda seen: shared(seen, 1 + others), "they share again")
                await until_ready(address)
                await rotate_all(made)


@asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    yield


async def test_replica_whose_connection_to_mongodb_is_cut_leaves_its_partitions_to_another(site_rig: Rig) -> None:
    site_rig.limit(lease_ms=2_000)
    await site_rig.users("alice", "bob", "carol")
    address = f"127.0.0.1:{free_port()}"
    uri = site_rig.settings.mongo_uri.get_secret_value()
    async with proxied(uri) as proxy:
        direct = SecretStr(f"{proxy.url.partition('?')[0]}?directConnection=true")
        async with site_rig.worker(mongo_uri=direct, health_addr=address), site_rig.worker():
            await until_owners(site_rig, lambda seen: shared(seen, 2), "both own half")
            await create_all(site_rig)
            proxy.accepting = False
            proxy.cut()
            await until_not_ready(address, "mongodb")
            await until_owners(site_rig, lambda seen: shared(seen, 1), "the one that can write owns all")
            await rotate_all(site_rig)
            proxy.accepting = True
            await until_owners(site_rig, lambda seen: shared(seen, 2), "both own half again")
            await until_ready(address)
            await rotate_all(site_rig)
