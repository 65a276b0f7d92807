"""The composition root: waits until the broker and the database are up, then serves until `stop` is set."""

import asyncio
import importlib.metadata
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from functools import partial
from typing import Final, Literal, TypeVar

import nats.errors
from nats.js.errors import APIError
from pymongo.errors import PyMongoError

from roomkeys.errors import TransientError
from store.database import Database, connect
from store.leases.lease import CursorsMissing, PartitionsMismatch, ensure_cursors
from store.setup.requirements import prepare_database
from worker.broker import connection as brokers
from worker.broker.cancellation import cancel_and_wait
from worker.broker.connection import Broker
from worker.broker.errors import describe
from worker.broker.jetstream.bootstrap import bootstrap_streams, check_streams, first_position
from worker.broker.permissions.rights import require_rights, rights_of
from worker.clock import Clock, now_ms
from worker.key_service.service import answering
from worker.limits import Limits
from worker.process.shutdown import Shutdown
from worker.replica.assignment import new_replica_id, serve
from worker.replica.site_identity import SiteIdentity
from worker.settings import Settings, WrongSetting
from worker.telemetry import metrics
from worker.telemetry.health import Health, served
from worker.telemetry.logs import logger
from worker.telemetry.outage import Outage

RETRY_SECONDS: Final = 2.0

_POLL_SECONDS: Final = 0.5

Role = Literal["worker", "service"]
"""What may run alone: the partitions' loop, or the key service."""

Report = Callable[[Settings, Health, Limits], AbstractAsyncContextManager[None]]
"""How the state of this process is reported while it runs."""

log = logger("app")
_T = TypeVar("_T")


class BrokerClosed(Exception):
    """The connection to NATS is closed for good: the process has to end."""


class _Stopped(Exception):
    """`stop` was set before everything was up."""


async def run(
    settings: Settings,
    stop: asyncio.Event,
    only: Role | None = None,
    *,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    clock: Clock = now_ms,
    report: Report = served,
) -> None:
    """Serve until `stop` is set: both roles, or `only` one.

    `WrongSetting`: a setting contradicts the machine or what the site was started with. `IncompatibleClient`: the
    installed nats-py does not fit. `BrokerClosed`: the process has to end. `Unfinished`: it was stopped, and had to
    leave a batch to its next owner.
    """
    if only == "service" and not settings.key_service:
        raise WrongSetting("KEY_SERVICE must be on with --only service")
    health, shutdown = Health(), Shutdown(stop, limits.shutdown_s)
    broker: Broker | None = None
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(report(settings, health, limits))
        database = open_database(settings)
        stack.push_async_callback(shutdown.step, "disconnect from MongoDB", database.close)
        try:
            outage = Outage("NATS", log)
            health.checks["nats"] = outage.problem
            connecting = partial(brokers.connect, settings, "room-worker", stop.set, limits, outage)
            broker = await _retry_until_ready(stop, "nats", health, connecting)
            stack.push_async_callback(shutdown.step, "disconnect from NATS", broker.close, keep=0.5)
            health.checks["room keys"] = broker.key_problem
            rights = rights_of(settings, loop=only != "service", key_service=only != "worker")
            await _retry_until_ready(stop, "nats permissions", health, partial(require_rights, broker, rights))
            await _retry_until_ready(stop, "nats", health, broker.client.prove_wire_order)
            preparing = partial(prepare_database, database, writes=only != "service")
            for warning in await _retry_until_ready(stop, "mongodb", health, preparing):
                log.warning("the database needs attention", problem=warning)
            identity = SiteIdentity(settings.site_id, database, broker)
            if only == "service":
                await _verify(identity)
                await _serve(settings, database, broker, shutdown, health, only, limits, clock)
            else:
                await _prepare(settings, database, broker, identity, stop, health)
                async with identity.watched(stop, limits.verify_site_s):
                    await _serve(settings, database, broker, shutdown, health, only, limits, clock)
        except _Stopped:
            log.info("stopped before start-up was complete")
        shutdown.require_finished()
        if broker is not None and broker.is_closed:
            error = broker.client.last_error
            raise BrokerClosed(f"the connection to NATS is closed for good: {error and describe(error)}")
    log.info("stopped")


async def _serve(
    settings: Settings,
    database: Database,
    broker: Broker,
    shutdown: Shutdown,
    health: Health,
    only: Role | None,
    limits: Limits,
    clock: Clock,
) -> None:
    """Serve with everything up; the key service answers until the partitions are released."""
    async with AsyncExitStack() as stack:
        if settings.key_service and only != "worker":
            await stack.enter_async_context(answering(settings, database, broker, limits, clock, shutdown))
        health.waiting_for.pop("start")
        me = "" if only == "service" else new_replica_id()
        version = importlib.metadata.version("room-worker")
        metrics.INFO.labels(me, version).set(1)
        log.info(
            "ready",
            replica=me,
            version=version,
            site=settings.site_id,
            partitions=settings.partitions,
            driver=settings.mongo_driver,
        )
        if only == "service":
            while not shutdown.stop.is_set() and not broker.is_closed:
                await _pause(shutdown.stop, _POLL_SECONDS)
        else:
            serving = serve(settings, me, database, broker, shutdown, health, limits, clock)
            await shutdown.outlast("serve", serving, keep=1.7)


def open_database(settings: Settings) -> Database:
    """Return the database that the settings name; `WrongSetting` if the driver rejects them."""
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
            "MONGO_URI must have valid options, readable files and, with mongodb+srv, a name that can be resolved"
        ) from None


async def _verify(identity: SiteIdentity) -> None:
    """Verify the site's database for the key service, which need not be allowed to."""
    try:
        await identity.verify()
    except TransientError as error:
        log.warning("the id of the site was not verified", cause=str(error))


async def _prepare(
    settings: Settings, database: Database, broker: Broker, identity: SiteIdentity, stop: asyncio.Event, health: Health
) -> None:
    async def streams() -> None:
        if settings.bootstrap_streams:
            await bootstrap_streams(broker, settings.site_id)
        await check_streams(broker, settings.site_id)

    async def cursors() -> None:
        try:
            start = await first_position(settings, broker)
            await ensure_cursors(database, settings.site_id, settings.partitions, start)
        except PartitionsMismatch as error:
            raise WrongSetting(f"PARTITIONS must be {error.stored}: {error}") from None
        except CursorsMissing as error:
            raise TransientError(str(error)) from None

    await _retry_until_ready(stop, "streams", health, streams)
    await _retry_until_ready(stop, "site", health, identity.verify)
    await _retry_until_ready(stop, "cursors", health, cursors)
    await _retry_until_ready(stop, "site", health, identity.establish)


async def _retry_until_ready(
    stop: asyncio.Event, component: str, health: Health, attempt: Callable[[], Awaitable[_T]]
) -> _T:
    """Try until it succeeds, and log what is missing; `_Stopped` if `stop` is set first."""
    outage = Outage(component, log)
    health.waiting_for[component] = "not ready yet"
    while not stop.is_set():
        try:
            result = await _or_stopped(stop, attempt())
        except (TransientError, nats.errors.Error, APIError, OSError) as error:
            cause = str(error) if isinstance(error, TransientError) else describe(error)
            health.waiting_for[component] = cause
            outage.failed(cause)
            await _pause(stop, RETRY_SECONDS)
        else:
            del health.waiting_for[component]
            outage.ended()
            return result
    raise _Stopped


async def _or_stopped(stop: asyncio.Event, attempt: Awaitable[_T]) -> _T:
    """Return the result of the attempt; `_Stopped` if `stop` is set first."""
    trying = asyncio.ensure_future(attempt)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({trying, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if trying.done():
        return trying.result()
    await cancel_and_wait(trying)
    raise _Stopped


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
