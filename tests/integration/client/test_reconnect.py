"""The subscriber's library over lost connections, with a server of its own to kill."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import nats
import orjson
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from roomkeys import subjects
from roomkeys.client import RoomKeys
from roomkeys.client.errors import ClientClosed
from tests.harness.key_service import room, secret, service
from tests.harness.polling import PATIENCE, until
from tests.harness.site import rig
from worker.local.servers import NatsServer


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roomkeys.client.room_keys.LOOK_SECONDS", 0.05)


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


async def test_keys_that_were_missed_while_the_server_was_away_are_held_after_it(
    own_nats: NatsServer, mongo_uri: str, database: str, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roomkeys.client.room_keys.REQUEST_SECONDS", 0.5)  # the service comes back last
    back = asyncio.Event()
    async with (
        rig(own_nats.url, mongo_uri, database, site) as made,
        service(made) as asking,
        connected(own_nats, back) as client,
    ):
        await asking.rooms(room("r1", 7))
        async with RoomKeys(client, "bob", site) as keys:
            changes = keys.changes()
            await own_nats.kill()
            rotated = room("r1", 9, past=[7, 8])
            await asking.database["rooms"].update_one({"_id": "r1"}, {"$set": {**rotated}})
            await own_nats.start()
            told = await asyncio.wait_for(anext(changes), PATIENCE)
            assert (told.version, keys.held("r1")) == (9, [7, 9])
            assert told.key.secret == secret("r1", 9)
            await asyncio.wait_for(back.wait(), PATIENCE)  # its user's own callback


async def test_who_waits_while_the_server_is_away_waits_for_what_is_missed_until_it_is_back(
    own_nats: NatsServer, mongo_uri: str, database: str, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roomkeys.client.room_keys.REQUEST_SECONDS", 0.5)
    async with (
        rig(own_nats.url, mongo_uri, database, site) as made,
        service(made) as asking,
        connected(own_nats) as client,
    ):
        await asking.rooms(room("r1", 7))
        async with RoomKeys(client, "bob", site) as keys:
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
    """Answers a catch-up, with nothing, only where it is told to."""

    def __init__(self) -> None:
        self.asked: list[Msg] = []
        self.answers = False

    async def hear(self, message: Msg) -> None:
        self.asked.append(message)
        if self.answers:
            await message.respond(orjson.dumps({"results": []}))


async def test_reconnects_during_a_catch_up_cause_one_pass_after_it_and_none_beside_it(
    own_nats: NatsServer, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roomkeys.client.room_keys.REQUEST_SECONDS", 8.0)
    hanging = Service()
    async with connected(own_nats) as client, connected(own_nats) as other:
        await other.subscribe(subjects.keys_sync(site), cb=hanging.hear)
        await other.flush()
        keys = RoomKeys(client, "bob", site)
        entering = asyncio.ensure_future(keys.__aenter__())
        await until(lambda: hanging.asked)
        for _ in range(2):
            before = client.stats["reconnects"]
            await own_nats.kill()
            await own_nats.start()
            await until(partial(reconnected_since, client, before), lambda: client.stats)
        await until(lambda: other.is_connected and client.is_connected)
        assert len(hanging.asked) == 1, "a second pass began beside the first"
        hanging.answers = True
        await hanging.asked[0].respond(orjson.dumps({"results": []}))
        try:
            await asyncio.wait_for(keys.caught_up(), PATIENCE)
            assert len(hanging.asked) == 2
        finally:
            await asyncio.wait_for(entering, PATIENCE)
            await keys.__aexit__(None, None, None)


async def test_whoever_waits_learns_that_a_connection_is_closed_for_good(nc: Client, site: str) -> None:
    async with RoomKeys(nc, "bob", site) as keys:
        changes = keys.changes()
        waiting = asyncio.ensure_future(keys.caught_up())
        await nc.close()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(anext(changes), PATIENCE)
        await asyncio.wait_for(waiting, PATIENCE)
        with pytest.raises(ClientClosed):
            await keys.key("r1", deadline=PATIENCE)
