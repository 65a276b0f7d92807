"""A NATS server whose worker has permissions, which a reload changes."""

import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import SecretStr

from tests.harness.polling import until
from tests.harness.site import Rig, rig
from worker.local.servers import NatsServer

KEYS = "chat.user.*.event.room.key"
USER: dict[str, Any] = {"nats_user": "worker", "nats_password": SecretStr("secret")}
"""The settings of a worker that logs in as the user with permissions."""


def config(permissions: dict[str, Any]) -> str:
    """Return a configuration in which the worker's user has these permissions and everybody else has all."""
    users: list[dict[str, Any]] = [
        {"user": "test", "password": "secret"},
        {"user": "worker", "password": "secret", "permissions": permissions},
    ]
    return f"authorization: {orjson.dumps({'users': users}).decode()}\nno_auth_user: test\n"


def denied(*accounts: str) -> dict[str, Any]:
    """Return permissions that deny keys to some accounts; without any, to all."""
    return {"publish": {"deny": [KEYS.replace("*", account) for account in accounts] or [KEYS]}}


def not_allowed(*accounts: str, but: Sequence[str] = ()) -> dict[str, Any]:
    """Return permissions that allow everything but keys, and keys only to some accounts."""
    keys = [KEYS.replace("*", account) for account in accounts]
    events = ["chat.user.*.event.subscription.update", "chat.user.*.response.*", "chat.room.>"]
    return {"publish": {"allow": [*keys, *events, "$JS.>", "_INBOX.>", *but]}}


@dataclass(frozen=True, slots=True)
class Restricted:
    """A site at a server that restricts its worker."""

    made: Rig
    server: NatsServer

    async def permit(self, permissions: dict[str, Any]) -> None:
        """Change the permissions of the connected worker."""
        self.server.config = config(permissions)
        self.server._prepare()
        process = self.server._process
        assert process is not None
        log = self.server._log
        before = log.read_text().count("Reloaded: authorization users")
        process.send_signal(signal.SIGHUP)
        await until(lambda: log.read_text().count("Reloaded: authorization users") > before)


@asynccontextmanager
async def restricted(
    folder: Path, mongo_uri: str, database: str, site: str, permissions: dict[str, Any]
) -> AsyncIterator[Restricted]:
    """Set up a site at such a server."""
    async with (
        NatsServer(folder / "nats", config=config(permissions)) as server,
        rig(server.url, mongo_uri, database, site, partitions=1) as made,
    ):
        await made.users("alice", "bob", "carol", "dave", "erin")
        yield Restricted(made, server)
