"""The key service: answers members who ask for room keys, as the NATS micro service `room-keys`.

This file accepts, limits, counts and answers requests; `worker/key_service/endpoints.py` decides what a reply
contains. The rate limit stands first, before anything is made of a request, so that a flood costs little. The account
is a token of the request's subject, and the permissions of the broker let a client publish only under its own account.
The broker does not check reply addresses, so the service does: it replies only to addresses below the allowed
prefixes. (docs/contract.md, section 6)
"""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import InitVar, dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import nats.errors
import orjson
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.micro.request import ERROR_CODE_HEADER, ERROR_HEADER
from nats.micro.service import EndpointStats, ServiceVerb
from prometheus_client import Counter

from roomkeys.errors import ErrorInfo, Rejection, TransientError
from roomkeys.membership import RoomViews
from roomkeys.messages import key_requests
from roomkeys.messages.key_replies import error_document
from roomkeys.tokens import is_reply, is_token
from store.database import Database
from store.reads.key_lookups import MembershipQuery, RoomsQuery, list_rooms, read_room_views
from worker.broker.cancellation import cancel_and_wait
from worker.broker.connection import INBOX_PREFIX, Broker, Unconfirmed
from worker.clock import Clock
from worker.key_service.batching import ReadBatcher
from worker.key_service.discovery import Identity, count
from worker.key_service.endpoints import ENDPOINTS, Endpoint, KeyRequest, KeyServiceContext
from worker.key_service.rate_limit import AccountLimit, RateLimit, Verdict
from worker.limits import Limits
from worker.process.shutdown import Shutdown
from worker.settings import Settings
from worker.telemetry import metrics
from worker.telemetry.logs import logger, where

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
"""What the client puts for bytes of a subject that are not UTF-8."""

_SERVICE_IMPORT: Final = "_R_."
"""How a NATS server begins the reply address of a request that another account sends through a service import."""

log = logger("key_service")


@dataclass(eq=False)
class KeyService:
    """One instance of the service."""

    settings: Settings
    database: InitVar[Database]
    broker: Broker
    tasks: asyncio.TaskGroup
    limits: Limits
    clock: InitVar[Clock]
    _subscriptions: list[Subscription] = field(init=False, default_factory=list)
    _in_hand: set[asyncio.Task[None]] = field(init=False, default_factory=set)
    _bytes: int = field(init=False, default=0)
    _is_abandoned: bool = field(init=False, default=False)
    _has_seen_import: bool = field(init=False, default=False)

    def __post_init__(self, database: Database, clock: Clock) -> None:
        limits, broker = self.limits, self.broker
        self._limit = AccountLimit(
            requests=RateLimit(limits.requests_per_s, limits.requests_burst),
            refusals=RateLimit(limits.refusals_per_s, limits.refusals_burst),
        )
        self._discoveries = RateLimit(limits.discoveries_per_s, limits.discoveries_burst)
        rooms: ReadBatcher[RoomsQuery, RoomViews] = ReadBatcher(
            lambda queries: read_room_views(database, queries, database.clock.now_ms(), limits.read_s),
            self.tasks,
            max_cost=limits.pairs_per_read,
            cost=lambda query: len(query.room_ids),
            max_versions=limits.versions_per_read,
            versions_of=lambda query: query.versions,
        )
        memberships: ReadBatcher[MembershipQuery, list[str]] = ReadBatcher(
            lambda queries: list_rooms(database, queries, limits.rooms_per_listing, limits.read_s),
            self.tasks,
            max_cost=limits.listings_per_read,
        )
        self._context = KeyServiceContext(
            rooms, memberships, limits.rooms_per_listing, lambda: broker.max_payload, clock
        )
        site, queue = self.settings.site_id, self.settings.key_service_queue
        self._stats = {item.name: EndpointStats(item.name, item.subject(site), queue, 0, 0, 0, 0) for item in ENDPOINTS}
        self._identity = Identity(site, version("room-worker"), list(self._stats.values()))

    async def start(self) -> None:
        """Subscribe to the requests."""
        client = self.broker.client
        with suppress(Unconfirmed):  # the client subscribes again when it reconnects
            async with self.broker.barrier():
                for subject, verb in self._identity.subjects().items():
                    subscription = await client.subscribe(subject, cb=partial(self._discover, verb))
                    client.guard(subscription, self._admits_discovery)
                    self._subscriptions.append(subscription)
                for endpoint in ENDPOINTS:
                    stats, accept = self._stats[endpoint.name], partial(self._accept, endpoint)
                    subscription = await client.subscribe(stats.subject, queue=stats.queue_group, cb=accept)
                    dropped = metrics.REQUESTS.labels(endpoint.name, "dropped")
                    client.guard(subscription, partial(self._admits, endpoint, dropped))
                    self._subscriptions.append(subscription)

    async def stop(self) -> None:
        """Accept no more requests, answer those in hand, and wait until the broker has the replies."""
        with suppress(Unconfirmed):
            async with self.broker.barrier():
                draining = {asyncio.ensure_future(_drain(subscription)) for subscription in self._subscriptions}
                for tasks in (draining, self._in_hand):
                    if tasks:
                        await asyncio.wait(tasks, timeout=self.limits.stop_s)
                    for task in list(tasks):
                        await cancel_and_wait(task)

    async def abandon(self) -> None:
        """Accept no more requests, and leave those in hand without a reply."""
        self._is_abandoned = True
        await asyncio.gather(*(cancel_and_wait(task) for task in self._in_hand))
        await self._context.rooms.close()
        await self._context.memberships.close()

    def _admits_discovery(self, _subject: bytes, _reply: bytes) -> bool:
        return self._discoveries.allows(b"", time.monotonic())

    def _admits(self, endpoint: Endpoint, dropped: Counter, subject: bytes, reply: bytes) -> bool:
        """Tell whether a request is within the rate limit of its account; of those beyond it, refuse a few."""
        verdict = self._limit.judge(subject.split(b".", 3)[2], time.monotonic())
        if verdict is Verdict.ACCEPT:
            return True
        if verdict is Verdict.REFUSE and self._may_reply(address := reply.decode(errors="replace")):
            refusing = self._answer(endpoint, address, key_requests.RATE_LIMITED, time.perf_counter_ns())
            self._start(refusing)
        else:
            dropped.inc()
        return False

    def _start(self, answering: Coroutine[Any, Any, None]) -> None:
        task = self.tasks.create_task(answering)
        self._in_hand.add(task)
        task.add_done_callback(self._in_hand.discard)

    async def _discover(self, verb: ServiceVerb, message: Msg) -> None:
        if self._may_reply(message.reply):
            await self._send(message.reply, self._identity.answer(verb))

    async def _accept(self, endpoint: Endpoint, message: Msg) -> None:
        """Refuse a request at once, or start a task that answers it."""
        if not self._may_reply(message.reply):
            metrics.REQUESTS.labels(endpoint.name, "unanswered").inc()
            return
        since = time.perf_counter_ns()
        # chat.user.{account}.request.room.{roomId}.…; the subjects of other endpoints name no room
        tokens = message.subject.split(".")
        request = KeyRequest(tokens[2], tokens[5] if tokens[4] == "room" else "", message.data)
        refusal = self._refusal(request)
        if refusal is not None:
            await self._answer(endpoint, message.reply, refusal, since)
            return
        self._bytes += len(request.body)
        self._start(self._serve(endpoint, request, message.reply, since))

    def _may_reply(self, address: str) -> bool:
        """Tell whether a reply may go to this address; say once that a service import needs a setting."""
        if self._is_abandoned or address.startswith(
            f"{INBOX_PREFIX}."
        ):  # a worker's inbox: its client expects no reply
            return False
        if is_reply(address, self.settings.key_service_replies):
            return True
        if address.startswith(_SERVICE_IMPORT) and not self._has_seen_import:
            self._has_seen_import = True
            log.warning(
                "requests through a service import of NATS are not answered: add _R_. to KEY_SERVICE_REPLIES",
                allowed=self.settings.key_service_replies,
            )
        return False

    def _refusal(self, request: KeyRequest) -> ErrorInfo | None:
        if not is_token(request.account) or _REPLACEMENT in request.account:
            return key_requests.INVALID_ACCOUNT
        limits, size = self.limits, self._bytes + len(request.body)
        if len(self._in_hand) >= limits.requests_in_flight or size > limits.request_bytes:
            return key_requests.OVERLOADED
        return None

    async def _serve(self, endpoint: Endpoint, request: KeyRequest, reply: str, since: int) -> None:
        answer: bytes | ErrorInfo
        try:
            async with asyncio.timeout(self.limits.reply_s):
                answer = await endpoint.handle(self._context, request)
        except Rejection as error:
            answer = error.info
        except (TransientError, TimeoutError):
            answer = key_requests.DATABASE_UNAVAILABLE
        except Exception as error:  # noqa: BLE001 - a bug in one request must not end the others
            log.warning("request failed", endpoint=endpoint.name, error=where(error))
            answer = key_requests.REQUEST_FAILED
        finally:
            self._bytes -= len(request.body)
        await self._answer(endpoint, reply, answer, since)

    async def _answer(self, endpoint: Endpoint, reply: str, answer: bytes | ErrorInfo, since: int) -> None:
        if isinstance(answer, bytes) and not self.broker.fits(answer):
            log.error("reply exceeds the maximum payload", endpoint=endpoint.name, bytes=len(answer))
            answer = key_requests.REQUEST_FAILED
        if isinstance(answer, bytes):
            outcome, error = "ok", None
            await self._send(reply, answer)
        else:
            outcome, error = answer.code, f"{answer.code}: {answer.reason}"
            headers = {ERROR_HEADER: answer.text, ERROR_CODE_HEADER: answer.code}
            await self._send(reply, orjson.dumps(error_document(answer)), headers)
        took = time.perf_counter_ns() - since
        count(self._stats[endpoint.name], took, error)
        metrics.REQUESTS.labels(endpoint.name, outcome).inc()
        metrics.REQUEST_SECONDS.labels(endpoint.name).observe(took / 1e9)

    async def _send(self, reply: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        try:
            await self.broker.publish(reply, body, headers)
        except TransientError as error:  # the client times out and asks again
            log.warning("reply not sent", cause=str(error))


@asynccontextmanager
async def answering(
    settings: Settings, database: Database, broker: Broker, limits: Limits, clock: Clock, shutdown: Shutdown
) -> AsyncIterator[None]:
    """Answer requests for the length of the block; at its end, finish the requests in hand.

    If an error or a cancellation ends the block, they get no reply, and their clients ask again.
    """
    async with asyncio.TaskGroup() as tasks:
        service = KeyService(settings, database, broker, tasks, limits, clock)
        try:
            await service.start()
            yield
            await shutdown.step("answer the requests in hand", service.stop, keep=1.0)
        finally:
            await service.abandon()


async def _drain(subscription: Subscription) -> None:
    with suppress(nats.errors.Error):
        await subscription.drain()  # type: ignore[no-untyped-call]
