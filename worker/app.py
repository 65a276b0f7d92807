"""The service: waits until everything it needs is up, then serves until it is told to stop.

The one place where settings, servers and the loop meet.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final, Literal, TypeVar

import nats.errors
from nats.js.api import RetentionPolicy, StreamConfig
from nats.js.errors import APIError, NotFoundError
from pymongo.errors import PyMongoError

from roomkeys import subjects
from roomkeys.errors import TransientError, Unexpected
from roomkeys.events.position import StreamPosition
from store.database import Database, connect
from store.indexes import ensure_indexes
from store.leases.lease import OtherPartitions, ensure_cursors
from worker.broker import connection as brokers
from worker.broker.cancellation import cancel_and_wait
from worker.broker.connection import Broker
from worker.broker.stream import created_ns, inspect, place_at
from worker.key_service.service import answering
from worker.replica.assignment import serve
from worker.settings import Settings, WrongSetting
from worker.telemetry.health import Health, served
from worker.telemetry.logs import logger, where

RETRY_SECONDS: Final = 2.0

DEDUPLICATION_SECONDS: Final = 600.0
"""How long the dead letters' stream recognises one that it has already."""

FORMER_CONSUMER: Final = "room-worker"
"""The durable consumer after whose ack floor a site's first start goes on."""

_LOOK_SECONDS: Final = 0.5

Role = Literal["worker", "service"]
"""What may run alone: the partitions' loop, or the key service."""

log = logger("app")
_T = TypeVar("_T")


class BrokerClosed(Exception):
    """The connection to NATS is closed for good: the process has to end."""


class _Stopped(Exception):
    """Told to stop before everything was up."""


async def run(settings: Settings, stop: asyncio.Event, only: Role | None = None) -> None:
    """Serve until `stop` is set, both halves unless told otherwise.

    `WrongSetting`: a setting contradicts the machine or what the site was started with. `BrokerClosed`: the
    process has to end.
    """
    if only == "service" and not settings.key_service:
        raise WrongSetting("KEY_SERVICE must be on where only the service runs")
    health = Health()
    broker: Broker | None = None
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(served(settings, health))
        database = open_database(settings)
        stack.push_async_callback(database.close)
        try:
            broker = await _retry_until_ready(
                stop, "nats", health, lambda: brokers.connect(settings, "room-worker", stop.set)
            )
            stack.push_async_callback(broker.close)
            health.nats_connected = lambda: broker.connected
            await _retry_until_ready(stop, "mongodb", health, lambda: ensure_indexes(database))
            if only != "service":
                await _prepare(settings, database, broker, stop, health)
            await _serve(settings, database, broker, stop, health, only)
        except _Stopped:
            log.info("stopped before everything was up")
        if broker is not None and broker.closed.is_set():
            raise BrokerClosed("the connection to NATS is closed for good")
    log.info("stopped")


async def _serve(
    settings: Settings,
    database: Database,
    broker: Broker,
    stop: asyncio.Event,
    health: Health,
    only: Role | None,
) -> None:
    """Serve with everything up; requests are answered until the partitions have been handed over."""
    async with AsyncExitStack() as stack:
        if settings.key_service and only != "worker":
            await stack.enter_async_context(answering(settings, database, broker))
        health.waiting_for.pop("start")
        log.info("ready", site=settings.site_id, partitions=settings.partitions, driver=settings.mongo_driver)
        if only != "service":
            await serve(settings, database, broker, stop)
            return
        while not stop.is_set():
            if broker.client.is_closed:  # which the client may not live to tell
                broker.closed.set()
                return
            await _pause(stop, _LOOK_SECONDS)


def open_database(settings: Settings) -> Database:
    """Return the database that the settings name; `WrongSetting` where no client can be made of them."""
    try:
        return connect(
            settings.mongo_uri.get_secret_value(),
            settings.mongo_db,
            settings.mongo_driver,
            username=settings.mongo_username,
            password=settings.mongo_secret,
        )
    except (PyMongoError, OSError, ValueError):  # whose texts may quote a password
        raise WrongSetting(
            "MONGO_URI must be a URI whose options, files and, for mongodb+srv, name servers are right"
        ) from None


async def bootstrap_streams(broker: Broker, site: str) -> None:
    """Create the streams that are missing; for development, one replica each."""
    for name, subject in (
        (subjects.events_stream(site), subjects.events_subjects(site)),
        (subjects.dead_letter_stream(site), subjects.dead_letter_subject(site)),
    ):
        config = StreamConfig(name=name, subjects=[subject], duplicate_window=DEDUPLICATION_SECONDS)
        try:
            await broker.jetstream.stream_info(name)
        except NotFoundError:
            await broker.jetstream.add_stream(config)
            log.info("stream created", stream=name)


async def check_streams(broker: Broker, site: str) -> None:
    """Require both streams, and retention by limits; `TransientError` says what is wrong."""
    info = await inspect(broker, subjects.events_stream(site))
    if info.config.retention not in {None, RetentionPolicy.LIMITS}:
        raise TransientError(
            f"stream {info.config.name} has another retention than limits: make it anew with limits"
        )
    await inspect(broker, subjects.dead_letter_stream(site))


async def first_place(settings: Settings, broker: Broker) -> StreamPosition:
    """Return the place at which a site without cursors begins. (contract.md, `START_FROM`)"""
    stream = subjects.events_stream(settings.site_id)
    info = await inspect(broker, stream)
    if settings.start_from == "new":
        sequence = info.state.last_seq
    elif settings.start_from == "auto":
        sequence = await _former_ack_floor(broker, stream)
    else:
        sequence = int(settings.start_from) - 1
    return await place_at(broker, stream, min(sequence, info.state.last_seq), created_ns(info))


async def _former_ack_floor(broker: Broker, stream: str) -> int:
    try:
        consumer = await broker.jetstream.consumer_info(stream, FORMER_CONSUMER)
    except NotFoundError:
        return 0
    return 0 if consumer.ack_floor is None else int(consumer.ack_floor.stream_seq)


async def _prepare(
    settings: Settings, database: Database, broker: Broker, stop: asyncio.Event, health: Health
) -> None:
    async def streams() -> None:
        if settings.bootstrap_streams:
            await bootstrap_streams(broker, settings.site_id)
        await check_streams(broker, settings.site_id)

    async def cursors() -> None:
        try:
            start = await first_place(settings, broker)
            await ensure_cursors(database, settings.site_id, settings.partitions, start)
        except OtherPartitions as error:
            raise WrongSetting(f"PARTITIONS must be {error.stored}: {error}") from None

    await _retry_until_ready(stop, "streams", health, streams)
    await _retry_until_ready(stop, "cursors", health, cursors)


async def _retry_until_ready(
    stop: asyncio.Event, part: str, health: Health, attempt: Callable[[], Awaitable[_T]]
) -> _T:
    """Try until it succeeds, saying each time what is missing; `_Stopped` when told to stop meanwhile."""
    health.waiting_for[part] = "not up yet"
    while not stop.is_set():
        try:
            result = await _or_stopped(stop, attempt())
        except (TransientError, Unexpected, nats.errors.Error, APIError, OSError) as error:
            cause = str(error) if isinstance(error, TransientError | Unexpected) else where(error)
            health.waiting_for[part] = cause
            log.warning("waiting", part=part, cause=cause)
            await _pause(stop, RETRY_SECONDS)
        else:
            del health.waiting_for[part]
            return result
    raise _Stopped


async def _or_stopped(stop: asyncio.Event, attempt: Awaitable[_T]) -> _T:
    """Return what comes of the attempt, unless told to stop meanwhile."""
    trying = asyncio.ensure_future(attempt)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({trying, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if trying.done():
        return trying.result()
    await cancel_and_wait(trying)
    raise _Stopped


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
