"""A producer: builds an event, publishes it, and waits for its result. (docs/contract.md, sections 1 and 3)

The command and the demo use it; the service does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import nats.errors
import orjson
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from roomkeys import subjects
from worker.broker.connection import Broker
from worker.cli.terminal.process import CommandFailed
from worker.clock import now_ms

PUBLISH_SECONDS: Final = 5.0
_NO_STREAM: Final = (
    "no stream has the subject {subject}: start the worker with BOOTSTRAP_STREAMS=true, or create {stream}"
)
RESULT_SECONDS: Final = 10.0
"""How long `ask` waits for a result by default."""


@dataclass(frozen=True, slots=True)
class Request:
    """An event to publish: the subject's suffix, the body without its timestamp, and the requester.

    `id` is a hyphenated UUID. It names the request; as `Nats-Msg-Id` it keeps the stream from storing it twice.
    """

    suffix: str
    body: dict[str, Any]
    requester: str
    id: str = field(default_factory=lambda: str(uuid4()))


def create(
    room_id: str, requester: str, *, name: str = "", users: Sequence[str] = (), orgs: Sequence[str] = ()
) -> Request:
    """Return the request for a room; without a name and orgs and with one user it is a dm."""
    body = {"roomId": room_id, "name": name, "users": list(users), "orgs": list(orgs), "channels": []}
    return Request("create", {**body, "requesterAccount": requester}, requester)


def add(
    room_id: str, requester: str, *, users: Sequence[str] = (), orgs: Sequence[str] = (), history: str | None = None
) -> Request:
    """Return the request for more members; with `history` "none" they cannot read earlier messages."""
    body: dict[str, Any] = {"roomId": room_id, "users": list(users), "orgs": list(orgs), "channels": []}
    if history is not None:
        body["history"] = {"mode": history}
    return Request("member.add", {**body, "requesterAccount": requester}, requester)


def remove(room_id: str, requester: str, *, users: Sequence[str] = (), org: str | None = None) -> Request:
    """Return the request for the removal of accounts, or of an org."""
    removed = {"accounts": list(users)} if org is None else {"orgId": org}
    return Request("member.remove", {"roomId": room_id, "requester": requester, **removed}, requester)


def rotate(room_id: str, requester: str, *, reason: str | None = None) -> Request:
    """Return the request for a new key."""
    given = {"reason": reason} if reason else {}
    return Request("key.rotate", {"roomId": room_id, "requester": requester, **given}, requester)


async def publish(broker: Broker, site: str, request: Request) -> int:
    """Publish the event with the current time as timestamp; return its sequence, or raise `CommandFailed`."""
    subject = subjects.event_subject(site, request.suffix)
    body = orjson.dumps({**request.body, "timestamp": now_ms()})
    return await publish_body(broker, site, subject, body, {"X-Request-ID": request.id, "Nats-Msg-Id": request.id})


async def publish_body(broker: Broker, site: str, subject: str, body: bytes, headers: dict[str, str]) -> int:
    """Publish an event's bytes as they are; return its stream sequence, or raise `CommandFailed`."""
    stream = subjects.events_stream(site)
    if not broker.fits(body, headers):
        raise CommandFailed(f"the event is larger than the server's max_payload of {broker.max_payload} bytes")
    try:
        stored = await broker.jetstream.publish(subject, body, timeout=PUBLISH_SECONDS, headers=headers)
    except NoStreamResponseError:
        raise CommandFailed(_NO_STREAM.format(subject=subject, stream=stream)) from None
    except APIError as error:
        raise CommandFailed(f"{stream} did not store the event: {error.description}") from None
    except nats.errors.TimeoutError:
        raise CommandFailed(await _silence(broker, subject, stream)) from None
    return int(stored.seq)


async def _silence(broker: Broker, subject: str, stream: str) -> str:
    """Say why no confirmation came: if the subject has a subscriber, a missing stream shows as a timeout."""
    try:
        await broker.jetstream.stream_info(stream)
    except NotFoundError:
        return _NO_STREAM.format(subject=subject, stream=stream)
    except nats.errors.Error:
        pass
    return f"{stream} did not confirm the event within {PUBLISH_SECONDS:g} s"


async def ask(
    broker: Broker, site: str, request: Request, seconds: float = RESULT_SECONDS
) -> tuple[int, dict[str, Any]]:
    """Publish the event; return its stream sequence and its result's body, or raise `CommandFailed` after `seconds`."""
    listening = await broker.client.subscribe(subjects.response(request.requester, request.id))
    try:
        await broker.client.flush()  # the subscription is there before the event is
        sequence = await publish(broker, site, request)
        try:
            message = await listening.next_msg(timeout=seconds)
        except nats.errors.TimeoutError:
            event = f"event {sequence} of {subjects.events_stream(site)}"
            raise CommandFailed(f"no result of {event} within {seconds:g} s: is a worker running?") from None
        return sequence, orjson.loads(message.data)
    finally:
        await listening.unsubscribe()
