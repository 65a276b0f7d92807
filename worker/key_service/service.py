"""The key service: what members ask for over NATS, as the micro service `room-keys`. (contract.md, section 6)

This file takes, limits, counts and answers requests; `worker/key_service/endpoints.py` decides what the answer is.
The account is the subject's own token: the broker's permissions let a client publish only under its own. The
broker checks no reply address, so we do: an answer goes only below the prefixes that are allowed.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from typing import Final

import nats.errors
import orjson
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.micro.request import ERROR_CODE_HEADER, ERROR_HEADER
from nats.micro.service import ServiceVerb

from roomkeys.errors import ErrorInfo, Rejection, TransientError
from roomkeys.membership import RoomViews
from roomkeys.messages import key_requests
from roomkeys.messages.key_replies import error_document
from roomkeys.tokens import is_reply, is_token
from store.database import Database
from store.reads.key_lookups import MembershipQuery, RoomsQuery, read_room_views, rooms_of
from worker.broker.cancellation import cancel_and_wait
from worker.broker.connection import Broker, Unconfirmed
from worker.clock import Clock
from worker.key_service.batching import ReadBatcher
from worker.key_service.discovery import Counts, Identity
from worker.key_service.endpoints import ENDPOINTS, Endpoint, KeyRequest, KeyServiceContext
from worker.key_service.rate_limit import RateLimit
from worker.limits import Limits
from worker.settings import Settings
from worker.telemetry import metrics
from worker.telemetry.logs import logger, where

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

log = logger("service")


class KeyService:
    """One instance of the service."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        broker: Broker,
        tasks: asyncio.TaskGroup,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._broker = broker
        self._tasks = tasks
        self._rooms: ReadBatcher[RoomsQuery, RoomViews] = ReadBatcher(
            lambda needs: read_room_views(database, needs, clock(), limits.read_s),
            tasks,
            most=limits.pairs_per_read,
            weigh=lambda need: len(need.room_ids),
            most_names=limits.versions_per_read,
            names=lambda need: need.versions,
        )
        self._listings: ReadBatcher[MembershipQuery, list[str]] = ReadBatcher(
            lambda listings: rooms_of(database, listings, limits.rooms_per_listing, limits.read_s),
            tasks,
            most=limits.listings_per_read,
        )
        self._desk = KeyServiceContext(
            self._rooms, self._listings, limits.rooms_per_listing, lambda: broker.max_payload, clock
        )
        self._limit = RateLimit()
        self._counts = {(item.name, item.subject(settings.site_id)): Counts() for item in ENDPOINTS}
        self._identity = Identity(
            settings.site_id, version("room-worker"), settings.key_service_queue, self._counts
        )
        self._subscriptions: list[Subscription] = []
        self._in_hand: set[asyncio.Task[None]] = set()
        self._bytes = 0

    async def start(self) -> None:
        """Subscribe; the subscriptions outlive every connection."""
        with suppress(Unconfirmed):  # the client subscribes again when it reconnects
            async with self._broker.barrier():
                await self._subscribe()

    async def stop(self) -> None:
        """Take no more requests, answer those in hand, and wait until the broker has the answers."""
        with suppress(Unconfirmed):
            async with self._broker.barrier():
                await self._finish()

    async def _finish(self) -> None:
        leaving = {asyncio.ensure_future(_leave(subscription)) for subscription in self._subscriptions}
        for tasks in (leaving, self._in_hand):
            if tasks:
                await asyncio.wait(tasks, timeout=self._limits.stop_s)
            for task in list(tasks):
                await cancel_and_wait(task)
        await self._rooms.close()
        await self._listings.close()

    async def _subscribe(self) -> None:
        client, queue = self._broker.client, self._settings.key_service_queue
        for subject, verb in self._identity.subjects().items():
            self._subscriptions.append(await client.subscribe(subject, cb=partial(self._discover, verb)))
        for endpoint, (_, subject) in zip(ENDPOINTS, self._counts, strict=True):
            took = partial(self._take, endpoint)
            self._subscriptions.append(await client.subscribe(subject, queue=queue, cb=took))

    async def _discover(self, verb: ServiceVerb, message: Msg) -> None:
        if is_reply(message.reply, self._settings.key_service_replies):
            await self._send(message.reply, self._identity.answer(verb))

    async def _take(self, endpoint: Endpoint, message: Msg) -> None:
        """Take a request: refuse it at once, or answer it in a task of its own."""
        if not is_reply(message.reply, self._settings.key_service_replies):
            metrics.REQUESTS.labels(endpoint.name, "unanswered").inc()
            return
        since = time.perf_counter_ns()
        call = _call(message)
        fault = self._refusal(call)
        if fault is not None:
            await self._answer(endpoint, message.reply, fault, since)
            return
        task = self._tasks.create_task(self._serve(endpoint, call, message.reply, since))
        self._in_hand.add(task)
        self._bytes += len(call.body)
        task.add_done_callback(self._in_hand.discard)

    def _refusal(self, call: KeyRequest) -> ErrorInfo | None:
        if not is_token(call.account) or _REPLACEMENT in call.account:
            return key_requests.INVALID_ACCOUNT
        if not self._limit.allows(call.account, time.monotonic()):
            return key_requests.RATE_LIMITED
        if (
            len(self._in_hand) >= self._limits.requests_in_hand
            or self._bytes + len(call.body) > self._limits.request_bytes
        ):
            return key_requests.OVERLOADED
        return None

    async def _serve(self, endpoint: Endpoint, call: KeyRequest, reply: str, since: int) -> None:
        answer: bytes | ErrorInfo
        try:
            async with asyncio.timeout(self._limits.reply_s):
                answer = await endpoint.handle(self._desk, call)
        except Rejection as error:
            answer = error.info
        except (TransientError, TimeoutError):
            answer = key_requests.DATABASE_UNAVAILABLE
        except Exception as error:  # noqa: BLE001 - one request's trouble is not the others'
            log.warning("request failed", endpoint=endpoint.name, error=where(error))
            answer = key_requests.REQUEST_FAILED
        finally:
            self._bytes -= len(call.body)
        await self._answer(endpoint, reply, answer, since)

    async def _answer(self, endpoint: Endpoint, reply: str, answer: bytes | ErrorInfo, since: int) -> None:
        if isinstance(answer, bytes) and not self._broker.fits(answer):
            log.error("answer larger than the server takes", endpoint=endpoint.name, bytes=len(answer))
            answer = key_requests.REQUEST_FAILED
        if isinstance(answer, bytes):
            outcome, error = "ok", None
            await self._send(reply, answer)
        else:
            outcome, error = answer.code, f"{answer.code}: {answer.reason}"
            headers = {ERROR_HEADER: answer.text, ERROR_CODE_HEADER: answer.code}
            await self._send(reply, orjson.dumps(error_document(answer)), headers)
        took = time.perf_counter_ns() - since
        self._counts[endpoint.name, endpoint.subject(self._settings.site_id)].add(took, error)
        metrics.REQUESTS.labels(endpoint.name, outcome).inc()
        metrics.REQUEST_SECONDS.labels(endpoint.name).observe(took / 1e9)

    async def _send(self, reply: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        try:
            await self._broker.publish(reply, body, headers)
        except TransientError as error:  # whoever asked asks again
            log.warning("answer not sent", cause=str(error))


@asynccontextmanager
async def answering(
    settings: Settings, database: Database, broker: Broker, limits: Limits, clock: Clock
) -> AsyncIterator[None]:
    """Answer requests for as long as the context lasts, and at its end those that are in hand."""
    async with asyncio.TaskGroup() as tasks:
        service = KeyService(settings, database, broker, tasks, limits, clock)
        try:
            await service.start()
            yield
        finally:
            await service.stop()


def _call(message: Msg) -> KeyRequest:
    """Read `chat.user.{account}.request.room.{roomId}.…`; the other subjects name no room."""
    parts = message.subject.split(".")
    return KeyRequest(parts[2], parts[5] if parts[4] == "room" else "", message.data)


async def _leave(subscription: Subscription) -> None:
    with suppress(nats.errors.Error):
        await subscription.drain()  # type: ignore[no-untyped-call]
