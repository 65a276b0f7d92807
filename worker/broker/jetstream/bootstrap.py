"""Start-up: creates or checks the streams, and finds the position from which a new site reads."""

from typing import Final

from nats.js.api import RetentionPolicy, StreamConfig
from nats.js.errors import APIError, NotFoundError

from roomkeys import subjects
from roomkeys.errors import TransientError
from roomkeys.events.position import StreamPosition
from worker.broker.connection import Broker
from worker.broker.jetstream.stream import StreamMissing, created_ns, inspect, position_at, requests_to
from worker.settings import Settings
from worker.telemetry.logs import logger

DEDUPLICATION_SECONDS: Final = 600.0
"""How long the dead-letter stream recognises a dead letter that it already has."""

FORMER_CONSUMER: Final = "room-worker"
"""The durable consumer after whose ack floor a site's first start continues."""

log = logger("bootstrap")


async def bootstrap_streams(broker: Broker, site: str) -> None:
    """Create the streams that are missing; for development, one replica each."""
    for name, subject in (
        (subjects.events_stream(site), subjects.events_subjects(site)),
        (subjects.dead_letter_stream(site), subjects.dead_letter_subject(site)),
    ):
        try:
            await inspect(broker, name)
        except StreamMissing:
            await _create(broker, StreamConfig(name=name, subjects=[subject], duplicate_window=DEDUPLICATION_SECONDS))


async def _create(broker: Broker, config: StreamConfig) -> None:
    """Create a stream, with the duplicate window that the server allows if it allows less."""
    with requests_to(broker, config.name or ""):
        try:
            info = await broker.jetstream.add_stream(config)
        except APIError as error:
            if "duplicates window" not in (error.description or ""):
                raise
            info = await broker.jetstream.add_stream(config.evolve(duplicate_window=0))
    log.info("stream created", stream=config.name, duplicate_window_s=info.config.duplicate_window)


async def check_streams(broker: Broker, site: str) -> None:
    """Require both streams, and retention by limits; `TransientError` says what is wrong."""
    info = await inspect(broker, subjects.events_stream(site))
    if info.config.retention not in {None, RetentionPolicy.LIMITS}:
        raise TransientError(
            f"stream {info.config.name} must have the retention policy limits: recreate it with retention limits"
        )
    await inspect(broker, subjects.dead_letter_stream(site))


async def first_position(settings: Settings, broker: Broker) -> StreamPosition:
    """Return the position from which a site without cursors reads. (docs/contract.md, `START_FROM`)"""
    stream = subjects.events_stream(settings.site_id)
    info = await inspect(broker, stream)
    if settings.start_from == "new":
        sequence = info.state.last_seq
    elif settings.start_from == "auto":
        sequence = await _former_ack_floor(broker, stream)
    else:
        sequence = int(settings.start_from) - 1
    return await position_at(broker, stream, min(sequence, info.state.last_seq), created_ns(info))


async def _former_ack_floor(broker: Broker, stream: str) -> int:
    with requests_to(broker, stream):
        try:
            consumer = await broker.jetstream.consumer_info(stream, FORMER_CONSUMER)
        except NotFoundError:
            return 0
    return 0 if consumer.ack_floor is None else int(consumer.ack_floor.stream_seq)
