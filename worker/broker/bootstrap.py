"""Start-up: creates or checks the streams, and finds the position from which a new site reads."""

from typing import Final

from nats.js.api import RetentionPolicy, StreamConfig
from nats.js.errors import NotFoundError

from roomkeys import subjects
from roomkeys.errors import TransientError
from roomkeys.events.position import StreamPosition
from worker.broker.connection import Broker
from worker.broker.stream import created_ns, inspect, position_at
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
    try:
        consumer = await broker.jetstream.consumer_info(stream, FORMER_CONSUMER)
    except NotFoundError:
        return 0
    return 0 if consumer.ack_floor is None else int(consumer.ack_floor.stream_seq)
