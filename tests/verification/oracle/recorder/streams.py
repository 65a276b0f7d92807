"""Reads whole streams of the broker, at some ten thousand messages per second."""

import asyncio
from collections.abc import Mapping

from nats.aio.client import Client
from nats.aio.msg import Msg

from roomkeys import subjects
from tests.verification.oracle.recording import DeadLetter, Event

PATIENCE = 120.0


async def read_all(client: Client, stream: str, after: int = 0) -> list[Msg]:
    """Return the messages of a stream after a sequence."""
    jetstream = client.jetstream()
    state = (await jetstream.stream_info(stream)).state
    if state.messages == 0 or state.last_seq <= after:
        return []
    found: list[Msg] = []
    done = asyncio.Event()

    async def take(message: Msg) -> None:
        found.append(message)
        if message.metadata.sequence.stream >= state.last_seq:
            done.set()

    subscription = await jetstream.subscribe(">", stream=stream, ordered_consumer=True, cb=take)
    try:
        await asyncio.wait_for(done.wait(), PATIENCE)
    except TimeoutError:
        raise AssertionError(f"read {len(found)} of {state.messages} messages of {stream}") from None
    finally:
        await subscription.unsubscribe()
    return [message for message in found if message.metadata.sequence.stream > after]


async def last_sequence(client: Client, stream: str) -> int:
    """Return the sequence of a stream's last message."""
    return int((await client.jetstream().stream_info(stream)).state.last_seq)


async def read_events(client: Client, site: str, after: int) -> list[Event]:
    """Return the events of a site."""
    return [_event(message) for message in await read_all(client, subjects.events_stream(site), after)]


async def read_dead_letters(client: Client, site: str) -> list[DeadLetter]:
    """Return the dead letters of a site."""
    found = await read_all(client, subjects.dead_letter_stream(site))
    return [DeadLetter(dict(message.headers or {}), message.data) for message in found]


def _event(message: Msg) -> Event:
    metadata, headers = message.metadata, message.headers or {}
    at_ms = int(metadata.timestamp.timestamp() * 1000)
    return Event(metadata.sequence.stream, at_ms, message.subject, message.data, request_id(headers))


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the request id that the producer set."""
    return headers.get("X-Request-ID")
