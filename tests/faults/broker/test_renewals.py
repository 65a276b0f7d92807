"""A server that refuses the connection for a while, or for good: the connection survives what can be survived.

Certificates, credentials and limits are renewed while the worker runs.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import nkeys
import pytest
from pydantic import SecretStr

from tests.faults.machinery.wire import LEAVES_CONNECTIONS
from tests.harness.certificates import Authority
from tests.harness.nats_accounts import Accounts, key_pair
from tests.harness.polling import until
from worker.broker import connection as brokers
from worker.broker.connection import Broker, Unconfirmed
from worker.local.servers import NatsServer
from worker.settings import read_settings
from worker.telemetry.logs import logger
from worker.telemetry.outage import Outage

pytestmark = LEAVES_CONNECTIONS


@asynccontextmanager
async def broker(server: NatsServer, **settings: Any) -> AsyncIterator[Broker]:
    """Connect as the worker does."""
    connected = await asyncio.wait_for(brokers.connect(read_settings(nats_url=server.url, **settings), "test"), 20)
    try:
        yield connected
    finally:
        await connected.close()


async def until_works(made: Broker) -> None:
    """Wait until messages are confirmed again."""
    while True:
        await asyncio.wait_for(made.until_connected(), 20)
        try:
            async with made.barrier():
                await made.publish("a", b"hi")
        except Unconfirmed:
            continue
        return


async def until_refused(made: Broker, cause: str) -> None:
    """Wait until the outage has this cause."""
    await until(lambda: made.outage.cause is not None and cause in made.outage.cause.lower(), lambda: made.outage.cause)


async def reload(server: NatsServer, config: str) -> None:
    """Let the server read another configuration."""
    server.config = config
    server._prepare()
    before = server._log.read_text().count("Reloaded server configuration")
    assert server._process is not None
    os.kill(server._process.pid, signal.SIGHUP)
    await until(lambda: server._log.read_text().count("Reloaded server configuration") > before)


async def test_error_of_a_live_connection_is_no_outage(own_nats: NatsServer) -> None:
    async with broker(own_nats) as made:
        for error in (nats.errors.FlushTimeoutError(), TimeoutError(), ConnectionResetError(), nats.errors.Error()):
            await made.on_error(error)
            assert made.outage.cause is None
        await own_nats.kill()
        await until_refused(made, "")
        await own_nats.start()
        await until_works(made)


async def test_expired_credentials_are_read_again_until_they_are_valid(tmp_path: Path) -> None:
    accounts, creds = Accounts(), tmp_path / "worker.creds"
    async with NatsServer(tmp_path / "nats", config=accounts.config()) as server:
        creds.write_text(accounts.credentials(valid_s=2))
        async with broker(server, nats_creds_file=creds) as made:
            await until_works(made)
            await until_refused(made, "user authentication expired")
            await until_refused(made, "authorization violation")
            creds.write_text(accounts.credentials()[:100])
            await until_refused(made, "nats_creds_file must be a credentials file of nsc")
            creds.unlink()
            await until_refused(made, "nats_creds_file must be a credentials file of nsc")
            creds.write_text(accounts.credentials())
            await until_works(made)
            assert made.outage.cause is None


async def test_renewed_nkey_logs_in_with_the_new_user(tmp_path: Path) -> None:
    def users(keys: nkeys.KeyPair) -> str:
        seed.write_bytes(bytes(keys.seed))
        return f"authorization {{ users: [ {{ nkey: {bytes(keys.public_key).decode()} }} ] }}"

    seed = tmp_path / "seed"
    config = users(key_pair(nkeys.PREFIX_BYTE_USER))
    async with NatsServer(tmp_path / "nats", config=config) as server, broker(server, nats_nkey_seed_file=seed) as made:
        await until_works(made)
        config = users(key_pair(nkeys.PREFIX_BYTE_USER))
        renewed = seed.read_bytes()
        seed.write_bytes(b"not a seed")
        await reload(server, config)
        await until_refused(made, "nats_nkey_seed_file must be a file with a user's nkey seed")
        seed.write_bytes(renewed)
        await until_works(made)


async def test_user_that_is_taken_away_is_waited_for(tmp_path: Path) -> None:
    def users(name: str) -> str:
        return f"authorization {{ users: [ {{ user: {name}, password: secret }} ] }}"

    async with NatsServer(tmp_path / "nats", config=users("worker")) as server:
        user = {"nats_user": "worker", "nats_password": SecretStr("secret")}
        async with broker(server, **user) as made:
            await reload(server, users("somebody"))
            await until_refused(made, "authorization violation")
            failures = made.client._server_pool[0].reconnects
            await until(lambda: made.client._server_pool[0].reconnects > failures + 2)
            await reload(server, users("worker"))
            await until_works(made)


async def test_renewed_certificates_are_read_for_the_next_connection(tmp_path: Path) -> None:
    files = tmp_path / "tls"
    paths = {name: json_path(files / f"{name}.pem") for name in ("ca", "cert", "key")}
    config = "tls {{ ca_file: {ca}, cert_file: {cert}, key_file: {key}, verify: true }}".format(**paths)
    Authority().write(files)
    settings = {f"nats_tls_{name}": files / f"{name}.pem" for name in paths}
    async with NatsServer(tmp_path / "nats", config=config) as server, broker(server, **settings) as made:
        await until_works(made)
        await server.kill()
        Authority().write(files)
        await server.start()
        await until_works(made)


async def test_certificates_that_cannot_be_read_are_named_until_they_can(tmp_path: Path) -> None:
    files = tmp_path / "tls"
    Authority().write(files)
    ca = files / "ca.pem"
    config = f"tls {{ cert_file: {json_path(files / 'cert.pem')}, key_file: {json_path(files / 'key.pem')} }}"
    async with NatsServer(tmp_path / "nats", config=config) as server, broker(server, nats_tls_ca=ca) as made:
        text = ca.read_text()
        ca.write_text("")
        await server.kill()
        await server.start()
        await until_refused(made, "nats_tls_ca must be a file of certificates in pem form")
        ca.write_text(text)
        await until_works(made)


def json_path(path: Path) -> str:
    return f'"{path}"'


async def test_lowered_max_payload_is_kept_to_after_the_server_has_cut_the_connection(own_nats: NatsServer) -> None:
    async with broker(own_nats) as made:
        assert made.max_payload == 1_048_576
        await reload(own_nats, "max_payload: 1000")
        with pytest.raises(Unconfirmed):
            await publish_too_much(made)
        await until_works(made)
        assert made.max_payload == 1_000
        assert not await made.publish("a", b"x" * 2_000)


async def publish_too_much(made: Broker) -> None:
    async with made.barrier():
        assert await made.publish("a", b"x" * 2_000)
        await until(lambda: not made.connected)


async def test_server_that_takes_no_more_connections_is_waited_for(tmp_path: Path) -> None:
    async with NatsServer(tmp_path / "nats", config="max_connections: 1") as server:
        other = await nats.connect(server.url)
        outage = Outage("NATS", logger("test"))
        connecting = asyncio.create_task(brokers.connect(read_settings(nats_url=server.url), "test", outage=outage))
        await until(lambda: outage.seconds > 2, lambda: outage.cause)
        await other.close()
        made = await asyncio.wait_for(connecting, 20)
        await until_works(made)
        assert outage.cause is None
        await made.close()


async def test_limit_of_subscriptions_is_an_outage_until_it_is_raised(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", config="max_subscriptions: 2")
    await server.start()
    async with broker(server) as made:
        heard: list[str] = []
        for number in range(4):
            await made.client.subscribe(f"x.{number}", cb=remember(heard))
        await until_refused(made, "maximum subscriptions exceeded")
        await until(lambda: made.outage.seconds > 3, lambda: made.outage.cause)
        await server.kill()
        server.config = ""
        await server.start()
        await until_works(made)
        for number in range(4):
            await made.publish(f"x.{number}", b"")
        await until(lambda: len(heard) == 4, lambda: heard)
    await server.kill()


def remember(heard: list[str]) -> Callable[[Any], Any]:
    async def hear(message: Any) -> None:
        heard.append(message.subject)

    return hear
