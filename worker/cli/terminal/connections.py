"""Connections for commands of a moment: they fail soon, with one clear line, where the service would wait."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import nats.errors
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError, ServiceUnavailableError

from roomkeys.errors import TransientError, Unexpected
from store.database import Database
from worker.app import open_database
from worker.broker.client import SteadyClient
from worker.broker.connection import Broker
from worker.broker.credentials import credentials
from worker.cli.terminal.process import Failed
from worker.limits import Limits
from worker.settings import Settings
from worker.telemetry.logs import server_of

CONNECT_SECONDS: Final = 5.0
"""How long a command tries to reach a server."""


@asynccontextmanager
async def nats_connection(
    settings: Settings, on_change: Callable[[str], None] | None = None
) -> AsyncIterator[Broker]:
    """Connect to NATS; `Failed` when that does not succeed soon, or for what NATS refuses in the block.

    With `on_change` the connection is kept for ever, and each loss, return and refusal is told in words.
    """
    broker = await _connect(settings, on_change)
    try:
        if on_change is not None:
            broker.client.options["max_reconnect_attempts"] = -1
        yield broker
    except (nats.errors.Error, OSError) as error:
        raise Failed(nats_complaint(error, settings)) from None
    finally:
        await broker.close()


async def _connect(settings: Settings, on_change: Callable[[str], None] | None) -> Broker:
    client = SteadyClient()
    watch = _Watch(client, on_change)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await client.connect(
                servers=settings.nats_url,
                name="room-worker command",
                error_cb=watch.failed,
                disconnected_cb=watch.lost,
                reconnected_cb=watch.back,
                max_reconnect_attempts=1,
                reconnect_time_wait=1,
                connect_timeout=3,
                **credentials(settings),
            )
    except (nats.errors.Error, OSError, ValueError) as error:
        raise Failed(nats_complaint(watch.first or error, settings)) from None
    return Broker(client, Limits().confirm_s)


class _Watch:
    """What befalls a connection: the first error, and what there is to tell of it."""

    def __init__(self, client: SteadyClient, tell: Callable[[str], None] | None) -> None:
        self.first: Exception | None = None
        self._client = client
        self._tell = tell

    async def failed(self, error: Exception) -> None:
        self.first = self.first or error
        if "permissions" in str(error).lower():
            self._say(_words(error))

    async def lost(self) -> None:
        self._say("the connection is lost; trying again")

    async def back(self) -> None:
        self._say("the connection is back")

    def _say(self, text: str) -> None:
        if self._tell is not None and not self._client.is_closed:
            self._tell(text)


def nats_complaint(error: Exception, settings: Settings) -> str:
    """Say what NATS refused, and where."""
    where = ", ".join(server_of(url) for url in settings.nats_url)
    match error:
        case NoStreamResponseError() | NotFoundError():
            what = "no such stream: start the worker with BOOTSTRAP_STREAMS=true, or create it"
        case ServiceUnavailableError() | nats.errors.NoRespondersError():
            what = "JetStream is not enabled: start nats-server with -js"
        case _:
            what = _words(error)
    return f"NATS at {where}: {what}"


def _words(error: Exception) -> str:
    if isinstance(error, APIError) and error.description:
        return error.description
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    return str(error).removeprefix("nats: ") or type(error).__name__


@asynccontextmanager
async def database_connection(settings: Settings) -> AsyncIterator[Database]:
    """Open the database; `Failed` for what it refuses in the block, or when it cannot be reached.

    Always over PyMongo's own asyncio client: Motor's threads would hold up the end of the program.
    """
    database = open_database(settings.model_copy(update={"mongo_driver": "pymongo"}))
    try:
        yield database
    except (TransientError, Unexpected) as error:
        where = server_of(settings.mongo_uri.get_secret_value())
        raise Failed(f"MongoDB at {where}: {error}; `room-worker check` says more") from None
    finally:
        await database.close()
