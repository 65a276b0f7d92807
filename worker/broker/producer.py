"""A producer: builds an event's body, publishes it, and waits for its result. (contract.md, sections 1 and 3)"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import nats.errors
import orjson
from nats.aio.client import Client
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from roomkeys import subjects
from worker.broker.connection import Broker

PUBLISH_SECONDS: Final = 5.0
_NO_STREAM: Final = "no stream takes {subject}: start the worker with BOOTSTRAP_STREAMS=true, or create {stream}"
RESULT_SECONDS: Final = 10.0
"""How long a result is waited for, unless told otherwise."""


class NotTaken(Exception):
    """The stream did not take the event; the message says why."""


class NotAnswered(Exception):
    """The event is in the stream, and no result came in time; the message says where it is."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a producer asks for: the subject's suffix, the body but for its timestamp, and who asks.

    `id` is a hyphenated UUID: it names the request and, as `Nats-Msg-Id`, keeps it from being taken twice.
    """

    suffix: str
    body: dict[str, Any]
    requester: str
    id: str


def create(
    room_id: str,
    requester: str,
    *,
    name: str = "",
    users: Sequence[str] = (),
    orgs: Sequence[str] = (),
    request_id: str | None = None,
) -> Request:
    """Ask for a room; without a name and orgs and with one user it is a dm."""
    body = {"roomId": room_id, "name": name, "users": list(users), "orgs": list(orgs), "channels": []}
    return _request("create", {**body, "requesterAccount": requester}, requester, request_id)


def add(
    room_id: str,
    requester: str,
    *,
    users: Sequence[str] = (),
    orgs: Sequence[str] = (),
    history: str | None = None,
    request_id: str | None = None,
) -> Request:
    """Ask for more members; `history` "none" keeps from them what was said before."""
    body: dict[str, Any] = {"roomId": room_id, "users": list(users), "orgs": list(orgs), "channels": []}
    if history is not None:
        body["history"] = {"mode": history}
    return _request("member.add", {**body, "requesterAccount": requester}, requester, request_id)


def remove(
    room_id: str,
    requester: str,
    *,
    users: Sequence[str] = (),
    org: str | None = None,
    request_id: str | None = None,
) -> Request:
    """Ask for the removal of accounts or of an org, not both."""
    body: dict[str, Any] = {"roomId": room_id, "requester": requester}
    body |= {"accounts": list(users)} if org is None else {"orgId": org}
    return _request("member.remove", body, requester, request_id)


def rotate(room_id: str, requester: str, *, reason: str | None = None, request_id: str | None = None) -> Request:
    """Ask for a new key."""
    body = {"roomId": room_id, "requester": requester, **({"reason": reason} if reason else {})}
    return _request("key.rotate", body, requester, request_id)


def _request(suffix: str, body: dict[str, Any], requester: str, request_id: str | None) -> Request:
    return Request(suffix, body, requester, request_id or str(uuid4()))


async def publish(broker: Broker, site: str, request: Request) -> int:
    """Publish the event, stamped with the time of now; return its stream sequence. `NotTaken` says why not."""
    subject = subjects.event_subject(site, request.suffix)
    body = orjson.dumps({**request.body, "timestamp": time.time_ns() // 1_000_000})
    return await publish_body(broker, site, subject, body, {"X-Request-ID": request.id, "Nats-Msg-Id": request.id})


async def publish_body(broker: Broker, site: str, subject: str, body: bytes, headers: dict[str, str]) -> int:
    """Publish an event's bytes as they are; return its stream sequence. `NotTaken` says why not."""
    stream = subjects.events_stream(site)
    if not broker.fits(body, headers):
        raise NotTaken(f"the event is larger than the {broker.max_payload} bytes that the server takes")
    try:
        taken = await broker.jetstream.publish(subject, body, timeout=PUBLISH_SECONDS, headers=headers)
    except NoStreamResponseError:
        raise NotTaken(_NO_STREAM.format(subject=subject, stream=stream)) from None
    except APIError as error:
        raise NotTaken(f"{stream} did not take the event: {error.description}") from None
    except nats.errors.TimeoutError:
        raise NotTaken(await _silence(broker, subject, stream)) from None
    return int(taken.seq)


async def _silence(broker: Broker, subject: str, stream: str) -> str:
    """Say why nobody confirmed: a subscriber on the subject hides it from the server that no stream is there."""
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
    """Publish the event and wait for its result; return its stream sequence and the result's body.

    `NotAnswered`: no result came within `seconds`; `NotTaken` as `publish`.
    """
    client: Client = broker.client
    listening = await client.subscribe(subjects.response(request.requester, request.id))
    try:
        await client.flush()  # the subscription is there before the event is
        sequence = await publish(broker, site, request)
        try:
            message = await listening.next_msg(timeout=seconds)
        except nats.errors.TimeoutError:
            place = f"event {sequence} of {subjects.events_stream(site)}"
            raise NotAnswered(f"no result of {place} within {seconds:g} s: is a worker running?") from None
        return sequence, orjson.loads(message.data)
    finally:
        await listening.unsubscribe()
