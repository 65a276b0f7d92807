"""A worker with a nats-py that it cannot use: it ends with one sentence, and before it has read an event."""

import asyncio
import re
import shutil
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.client import Client
from pydantic import SecretStr

from roomkeys.errors import TransientError
from tests.harness.processes import run, variables
from tests.harness.proxy import Chunk, proxied
from tests.harness.site import PATIENCE, Rig
from worker import app
from worker.broker import connection as brokers
from worker.broker.compatibility import IncompatibleClient
from worker.broker.nats_client import SteadyClient
from worker.local.servers import NatsServer
from worker.settings import read_settings

DENIED = """
authorization { users: [
  { user: worker, password: secret, permissions: { publish: { deny: ["_INBOX.>"] } } }
] }
"""
METADATA = "Metadata-Version: 2.1\nName: nats-py\nVersion: 2.15.0\n"


def older_nats_py(folder: Path) -> None:
    """Put a copy of nats-py into a folder that has another version and lacks a method."""
    shutil.copytree(Path(nats.__file__).parent, folder / "nats")
    source = folder / "nats" / "aio" / "client.py"
    source.write_text(source.read_text().replace("_process_pong", "_process_answer"))
    parser = folder / "nats" / "protocol" / "parser.py"
    parser.write_text(parser.read_text().replace("_process_pong", "_process_answer"))
    about = folder / "nats_py-2.15.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(METADATA)


@pytest.mark.parametrize("command", [["run"], ["status"]], ids=" ".join)
async def test_an_older_nats_py_ends_the_command_with_both_versions(
    site_rig: Rig, tmp_path: Path, command: list[str]
) -> None:
    older_nats_py(tmp_path)
    ended = await run(*command, env=variables(site_rig, PYTHONPATH=str(tmp_path), LOG_LEVEL="error"))
    assert ended.err == (
        "room-worker: nats-py 2.15.0 is installed, but room-worker needs ~=2.16.0: "
        "its client lacks async _process_pong(self)\n"
    )
    assert ended.code == 1


async def test_a_worker_whose_pings_overtake_messages_does_not_start(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SteadyClient, "_send_ping", Client._send_ping)
    with pytest.raises(IncompatibleClient, match=r"2\.16\.\d+ is installed.*sends a ping ahead of the messages"):
        await asyncio.wait_for(app.run(site_rig.settings, asyncio.Event()), PATIENCE)


async def test_the_wire_order_is_proven_on_a_connection_that_then_has_no_subscription(nats_url: str) -> None:
    async with proxied(nats_url) as proxy:
        broker = await brokers.connect(read_settings(nats_url=proxy.url), "test")
        before = len(proxy.sent)
        await broker.client.prove_wire_order()
        async with broker.barrier():
            pass
        lines = bytes(proxy.sent[before:]).split(b"\r\n")
        words = [line.split(b" ")[0] for line in lines if line]
        assert b" ".join(words) == b"SUB PUB PUB PING PING UNSUB PING"
        await broker.close()


async def test_a_denied_inbox_proves_the_wire_order_and_is_not_reported(tmp_path: Path) -> None:
    async with NatsServer(tmp_path / "nats", config=DENIED) as server:
        user = {"nats_user": "worker", "nats_password": SecretStr("secret")}
        broker = await brokers.connect(read_settings(nats_url=server.url, **user), "test")
        reported: list[Exception] = []

        async def report(error: Exception) -> None:
            reported.append(error)

        broker.client._error_cb = report
        await broker.client.prove_wire_order()
        assert reported == []
        async with broker.barrier():
            await broker.client.publish("_INBOX.other")
        assert len(reported) == 1, "other denials are reported as before"
        await broker.close()


@pytest.mark.parametrize("from_client", [True, False], ids=["the messages", "their return"])
async def test_a_proof_that_the_network_prevents_can_be_tried_again(nats_url: str, *, from_client: bool) -> None:
    async def lose_messages(chunk: Chunk) -> bytes:
        if chunk.from_client is not from_client:
            return chunk.data
        return re.sub(rb"(PUB|MSG) [^\r]*\r\n\r\n", b"", chunk.data)

    async with proxied(nats_url) as proxy:
        broker = await brokers.connect(read_settings(nats_url=proxy.url), "test")
        proxy.fault = lose_messages
        with pytest.raises(TransientError, match="does not return messages"):
            await broker.client.prove_wire_order()
        proxy.cut()
        with pytest.raises((TransientError, nats.errors.Error)):
            await broker.client.prove_wire_order(answer_s=1)
        proxy.fault = None
        await asyncio.wait_for(broker.until_connected(), PATIENCE)
        await broker.client.prove_wire_order()
        await broker.close()
