"""A worker in this process on local servers: what `demo` and `dev` share."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from worker import app
from worker.broker.jetstream.bootstrap import bootstrap_streams
from worker.cli.terminal.connections import database_connection, nats_connection
from worker.local.ports import HOST
from worker.local.servers import MongoServer, NatsServer
from worker.settings import Settings


def local_settings(nats: NatsServer, mongo: MongoServer, http_port: int) -> dict[str, Any]:
    """Return the settings for these servers, by field, without any credentials from the environment."""
    address = f"{HOST}:{http_port}"
    credentials = {name: None for name, field in Settings.model_fields.items() if field.default is None}
    servers = {"nats_url": nats.url, "mongo_uri": mongo.uri, "bootstrap_streams": True}
    return {**credentials, **servers, "health_addr": address, "metrics_addr": address}


async def prepare(settings: Settings, accounts: Sequence[str]) -> None:
    """Create the streams, so that events can be published before the worker is up, and users that are missing."""
    async with nats_connection(settings) as broker:
        await bootstrap_streams(broker, settings.site_id)
    async with database_connection(settings) as database:
        for account in accounts:
            user = {"account": account, "siteId": settings.site_id, "engName": account.capitalize()}
            await database["users"].update_one({"_id": f"u-{account}"}, {"$setOnInsert": user}, upsert=True)


@asynccontextmanager
async def running_worker(settings: Settings) -> AsyncIterator[None]:
    """Run the worker in this process for the length of the block; if the worker fails, the block fails too."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(app.run(settings, stop))
        try:
            yield
        finally:
            stop.set()
