"""The Node.js example: another NATS client and WebCrypto open messages sealed with the worker's keys."""

import os
import shutil
import subprocess
from asyncio.subprocess import Process
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.harness import events
from tests.harness.processes import running, says, variables
from tests.harness.site import Rig, rig
from worker.local.ports import HOST, free_port
from worker.local.servers import NatsServer

NODE = Path(__file__).parents[3] / "examples" / "node"
OLDEST = 20
UNREACHABLE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH", "ECONNRESET")


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the example to a folder, and install what its lock file names."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("the Node.js example needs node and npm")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").split(".")[0]) < OLDEST:
        pytest.skip(f"the Node.js example needs node {OLDEST} or newer, not {version.strip()}")
    folder = tmp_path_factory.mktemp("node") / "client"
    shutil.copytree(NODE, folder, ignore=shutil.ignore_patterns("node_modules"))
    installed = subprocess.run(
        [npm, "ci", "--ignore-scripts", "--prefer-offline", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    if any(f"code {code}" in installed.stderr for code in UNREACHABLE):
        pytest.skip("the Node.js example needs npm to reach its registry")
    assert installed.returncode == 0, installed.stderr
    return folder


@dataclass(frozen=True, slots=True)
class Site:
    """A separate site, and the Node.js example over one transport."""

    made: Rig
    server: NatsServer
    url: str
    script: str

    def subscriber(self) -> AbstractAsyncContextManager[Process]:
        """Run the example as bob."""
        env = variables(self.made, NATS_URL=self.url)
        return running(self.script, "bob", env=env, program=shutil.which("node") or "node")

    async def say(self, text: str, key: dict[str, Any] | None = None, *, spoiled: bool = False) -> None:
        """Seal a message with the key in use or a given one, and send it."""
        key = key or await self.key()
        nonce = os.urandom(12)
        ciphertext = bytearray(AESGCM(key["priv"]).encrypt(nonce, text.encode(), None))
        ciphertext[0] ^= spoiled
        envelope = {"nonce": b64encode(nonce).decode(), "ciphertext": b64encode(ciphertext).decode()}
        await self.made.nc.publish("example.room.r1.message", orjson.dumps({"version": key["ver"], **envelope}))

    async def key(self) -> dict[str, Any]:
        """Return the key in use."""
        return dict((await self.made.room("r1"))["encKey"])


@pytest.fixture(params=["nats", "ws"])
async def node_site(
    request: pytest.FixtureRequest, node_folder: Path, tmp_path: Path, mongo_uri: str, database: str, site: str
) -> AsyncIterator[Site]:
    """Start a site whose server accepts clients over TCP and over WebSocket."""
    port = free_port()
    config = f'websocket {{ listen: "{HOST}:{port}", no_tls: true }}'
    async with (
        NatsServer(tmp_path / "nats", config=config) as server,
        rig(server.url, mongo_uri, database, site) as made,
    ):
        await made.users("alice", "bob", "carol")
        url = server.url if request.param == "nats" else f"ws://{HOST}:{port}"
        yield Site(made, server, url, str(node_folder / "subscriber.mjs"))


async def test_the_node_client_receives_and_fetches_keys_and_opens_messages(node_site: Site) -> None:
    made = node_site.made
    room = events.create("r1", "bob", "carol")
    async with made.worker():
        await made.until_owned()
        async with node_site.subscriber() as bob:
            await says(bob, "up to date as bob")
            await made.ask("create", room)
            assert await says(bob, " key ") == "received key 0 of room r1\n"
            await node_site.say("grüß dich")
            assert await says(bob, "room r1: ") == "room r1: grüß dich\n"
        first = await node_site.key()
        await made.ask("member.remove", events.remove("r1", account="carol"))
        async with node_site.subscriber() as bob:
            assert await says(bob, " key ") == "fetched key 1 of room r1\n", "the key in use, fetched when it connects"
            await says(bob, "up to date as bob")
            await node_site.say("carol is gone")
            assert await says(bob, "room r1: ") == "room r1: carol is gone\n"
            await node_site.say("she was here", first)
            assert await says(bob, " key ") == "fetched key 0 of room r1\n", "an older key, fetched for a message"
            assert await says(bob, "room r1: ") == "room r1: she was here\n"
            await node_site.say("spoiled", spoiled=True)
            assert await says(bob, "room r1: ") == "room r1: a message that key 1 does not open\n"
            for malformed in (b"", b"null", b"hello"):
                await made.nc.publish("example.room.r1.message", malformed)
                assert await says(bob, "room r1: ") == "room r1: not a sealed message\n"
            await made.ask("member.remove", events.remove("r1", account="bob"))
            await node_site.say("bob is gone")
            assert await says(bob, "room r1: ") == "room r1: no key 2: not_room_member\n"


async def test_the_node_client_catches_up_after_a_lost_connection(node_site: Site) -> None:
    made = node_site.made
    async with made.worker():
        await made.until_owned()
        async with node_site.subscriber() as bob:
            await says(bob, "up to date as bob")
            await node_site.server.kill()
            await node_site.server.start()
            await says(bob, "up to date as bob")


def test_the_lock_file_names_no_registry() -> None:
    lock = (NODE / "package-lock.json").read_text()
    assert '"integrity"' in lock
    assert "http" not in lock
    assert "resolved" not in lock
