"""The client library when connections are lost, with a separate server to kill."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import nats
import orjson
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from roomkeys import subjects
from roomkeys.client import RoomKeys
from roomkeys.client.errors import ClientClosed
from roomkeys.client.room_keys import ClientLimits
from tests.harness.key_service import room, secret, service
from tests.harness.polling import PATIENCE, until
from tests.harness.site import rig
from worker.local.servers import NatsServer

LIMITS = ClientLimits(reconnect_check_seconds=0.05)
IMPATIENT = replace(LIMITS, request_seconds=0.5)
"""The key service comes back after the client does: a request that it missed is soon repeated."""
PATIENT = replace(LIMITS, request_seconds=8.0)


@asynccontextmanager
async def connected(server: NatsServer, back: asyncio.Event | None = None) -> AsyncIterator[Client]:
    async def reconnected() -> None:
        if back is not None:
            back.set()

    client = await nats.connect(
        server.url, reconnected_cb=reconnected, max_reconnect_attempts=-1, reconnect_time_wait=0.05
    )
    try:
        yield client
    finally:
        await client.close()


async def test_keys_missed_while_the_server_was_down_are_fetched_after_the_reconnect(
    own_nats: NatsServer, mongo_uri: str, database: str, site: str
) -> None:
    back = asyncio.Event()
    async with (
        rig(own_nats.url, mongo_uri, database, site) as made,
        service(made) as asking,
        connected(own_nats, back) as client,
    ):
        await asking.rooms(room("r1", 7))
        async with RoomKeys(client, "bob", site, limits=IMPATIENT) as keys:
            changes = keys.changes()
            await own_nats.kill()
            rotated = room("r1", 9, past=[7, 8])
            await asking.database["rooms"].update_one({"_id": "r1"}, {"$set": {**rotated}})
            await own_nats.start()
            changed = await asyncio.wait_for(anext(changes), PATIENCE)
            assert (changed.version, keys.held("r1")) == (9, [7, 9])
            assert changed.key.secret == secret("r1", 9)
            await asyncio.wait_for(back.wait(), PATIENCE)  # the caller's own callback still works


async def test_caught_up_while_disconnected_waits_for_the_keys_missed_until_the_reconnect(
    own_nats: NatsServer, mongo_uri: str, database: str, site: str
) -> None:
    async with (
        rig(own_nats.url, mongo_uri, database, site) as made,
        service(made) as asking,
        connected(own_nats) as client,
    ):
        await asking.rooms(room("r1", 7))
        async with RoomKeys(client, "bob", site, limits=IMPATIENT) as keys:
            await own_nats.kill()
            await until(lambda: not client.is_connected)
            await asking.database["rooms"].update_one({"_id": "r1"}, {"$set": {**room("r1", 9, past=[7, 8])}})
            waiting = asyncio.ensure_future(keys.caught_up())
            await own_nats.start()
            await asyncio.wait_for(waiting, PATIENCE)
            assert keys.held("r1") == [7, 9]


def reconnected_since(client: Client, before: int) -> bool:
    return bool(client.stats["reconnects"] > before)


class Service:
    """A key service that answers a sync, with no keys, only while `answers` is set."""

    def __init__(self) -> None:
        self.requests: list[Msg] = []
        self.answers = False

    async def serve(self, message: Msg) -> None:
        self.requests.append(message)
        if self.answers:
            await message.respond(orjson.dumps({"results": []}))


async def test_reconnects_during_a_sync_cause_one_more_sync_after_it(own_nats: NatsServer, site: str) -> None:
    hanging = Service()
    async with connected(own_nats) as client, connected(own_nats) as other:
        await other.subscribe(subjects.keys_sync(site), cb=hanging.serve)
        await other.flush()
        keys = RoomKeys(client, "bob", site, limits=PATIENT)
        entering = asyncio.ensure_future(keys.__aenter__())
        await until(lambda: hanging.requests)
        for _ in range(2):
            before = client.stats["reconnects"]
            await own_nats.kill()
            await own_nats.start()
            await until(partial(reconnected_since, client, before), lambda: client.stats)
        await until(lambda: other.is_connected and client.is_connected)
        assert len(hanging.requests) == 1, "a second sync began during the first"
        hanging.answers = True
        await hanging.requests[0].respond(orjson.dumps({"results": []}))
        try:
            await asyncio.wait_for(keys.caught_up(), PATIENCE)
            assert len(hanging.requests) == 2
        finally:
            await asyncio.wait_for(entering, PATIENCE)
            await keys.__aexit__(None, None, None)


async def test_closing_the_connection_ends_all_waits(nc: Client, site: str) -> None:
    async with RoomKeys(nc, "bob", site, limits=LIMITS) as keys:
        changes = keys.changes()
        waiting = asyncio.ensure_future(keys.caught_up())
        await nc.close()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(anext(changes), PATIENCE)
        await asyncio.wait_for(waiting, PATIENCE)
        with pytest.raises(ClientClosed):
            await keys.key("r1", deadline=PATIENCE)
