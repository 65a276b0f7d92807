"""Connections for short commands: where the service would retry, they fail within seconds, with one clear line."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import nats.errors
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError, ServiceUnavailableError

from roomkeys.errors import TransientError
from store.database import Database
from worker.app import open_database
from worker.broker.connection import Broker
from worker.broker.credentials import credentials
from worker.broker.nats_client import SteadyClient
from worker.cli.terminal.process import CommandFailed
from worker.limits import Limits
from worker.settings import Settings
from worker.telemetry.logs import server_of

CONNECT_SECONDS: Final = 5.0
"""How long a command tries to connect."""


@asynccontextmanager
async def nats_connection(settings: Settings, on_change: Callable[[str], None] | None = None) -> AsyncIterator[Broker]:
    """Connect to NATS for the length of the block.

    Raises `CommandFailed` when the connection takes too long, and in place of an error of NATS in the block. With
    `on_change`, the client reconnects for ever, and reports each loss, each return and each denied permission.
    """
    broker = await _connect(settings, on_change)
    try:
        if on_change is not None:
            broker.client.options["max_reconnect_attempts"] = -1
        yield broker
    except (nats.errors.Error, OSError) as error:
        raise CommandFailed(_at_nats(settings, error)) from None
    finally:
        await broker.close()


async def _connect(settings: Settings, on_change: Callable[[str], None] | None) -> Broker:
    client = SteadyClient()
    client.renew = lambda: credentials(settings)
    watch = _Watch(client, on_change)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await client.connect(
                servers=settings.nats_url,
                name="room-worker command",
                error_cb=watch.failed,
                disconnected_cb=partial(watch.report, "connection lost, reconnecting"),
                reconnected_cb=partial(watch.report, "connection restored"),
                max_reconnect_attempts=1,
                reconnect_time_wait=1,
                connect_timeout=3,
                **credentials(settings),
            )
    except (nats.errors.Error, OSError, ValueError) as error:
        raise CommandFailed(_at_nats(settings, watch.first or error)) from None
    return Broker(client, Limits().confirm_s)


@dataclass
class _Watch:
    """Observes a connection: keeps the first error, and reports what happens to the connection."""

    client: SteadyClient
    on_change: Callable[[str], None] | None
    first: Exception | None = None

    async def failed(self, error: Exception) -> None:
        self.first = self.first or error
        if "permissions" in str(error).lower():
            await self.report(_describe(error))

    async def report(self, text: str) -> None:
        if self.on_change is not None and not self.client.is_closed:
            self.on_change(text)


def _at_nats(settings: Settings, error: Exception) -> str:
    return f"NATS at {', '.join(server_of(url) for url in settings.nats_url)}: {_describe(error)}"


def _describe(error: Exception) -> str:
    match error:
        case NoStreamResponseError() | NotFoundError():
            return "no such stream: start the worker with BOOTSTRAP_STREAMS=true, or create the stream"
        case ServiceUnavailableError() | nats.errors.NoRespondersError():
            return "JetStream is not enabled: start nats-server with -js"
        case APIError(description=str(text)) if text:
            return text
        case TimeoutError():
            return "timed out"
        case ConnectionRefusedError() | socket.gaierror():
            return "connection refused" if isinstance(error, ConnectionError) else "the name cannot be resolved"
    return str(error).removeprefix("nats: ") or type(error).__name__


@asynccontextmanager
async def database_connection(settings: Settings) -> AsyncIterator[Database]:
    """Open the database for the block, with PyMongo: Motor's threads would delay the exit.

    Raises `CommandFailed` in place of an error of the database, the only sign that it cannot be reached.
    """
    database = open_database(settings.model_copy(update={"mongo_driver": "pymongo"}))
    try:
        yield database
    except TransientError as error:
        server = server_of(settings.mongo_uri.get_secret_value())
        raise CommandFailed(f"MongoDB at {server}: {error}; run `room-worker check` for details") from None
    finally:
        await database.close()
