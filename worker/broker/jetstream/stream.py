"""The events stream: whether it is still the same stream, and where to read on.

A stream that was deleted and re-created, or that lost its end, has other messages under the old sequences. The
broker reports no error then; only the times of messages show it. (docs/pitfalls.md, items 18 and 19)
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import nats.errors
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamInfo
from nats.js.errors import APIError, NotFoundError

from roomkeys.events.position import StreamPosition
from worker.broker.connection import Broker, BrokerUnavailable
from worker.broker.errors import describe

_NANOSECOND: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STREAM_NOT_FOUND: Final = 10_059
_TOO_MANY_CONSUMERS: Final = 10_026


class StreamMissing(BrokerUnavailable):
    """The stream does not exist."""

    def __init__(self, stream: str) -> None:
        super().__init__(f"stream {stream} does not exist: create it, or restart with BOOTSTRAP_STREAMS=true")


class TooManyConsumers(BrokerUnavailable):
    """The stream, or the account, has as many consumers as it may have."""


@contextmanager
def requests_to(broker: Broker, stream: str) -> Iterator[None]:
    """Raise a `BrokerUnavailable` with the broker's words in place of an error of the block."""
    if not broker.connected:  # a request would only time out
        raise BrokerUnavailable("not connected to NATS")
    try:
        yield
    except (nats.errors.Error, OSError) as error:
        code = error.err_code if isinstance(error, APIError) else None
        if code == _STREAM_NOT_FOUND:
            raise StreamMissing(stream) from None
        kind = TooManyConsumers if code == _TOO_MANY_CONSUMERS else BrokerUnavailable
        raise kind(_denial(broker, stream, error) or describe(error)) from None


def _denial(broker: Broker, stream: str, error: Exception) -> str | None:
    """Return the broker's denial of a request that got no answer: JetStream does not hear of it."""
    last = str(broker.client.last_error or "")
    denied = isinstance(error, TimeoutError) and "$js.api" in last and stream.lower() in last
    return last.removeprefix("nats: ") if denied else None


async def inspect(broker: Broker, stream: str) -> StreamInfo:
    """Return the stream's state; `StreamMissing` if it does not exist."""
    with requests_to(broker, stream):
        return await broker.jetstream.stream_info(stream)


def created_ns(info: StreamInfo) -> int:
    """Return when the stream was created (epoch nanoseconds, to the microsecond)."""
    return 0 if info.created is None else _ns(info.created)


async def position_at(broker: Broker, stream: str, sequence: int, created: int) -> StreamPosition:
    """Return the position after the message with this sequence; its time is 0 if the message is gone."""
    time_ns = await _time_of(broker, stream, sequence) if sequence > 0 else None
    return StreamPosition(max(sequence, 0), time_ns or 0, created)


async def resume_after(broker: Broker, stream: str, position: StreamPosition) -> StreamPosition:
    """Return the position to read on from: `position` itself if the stream is still the same.

    If the stream was re-created or lost its end, reading goes on after the last message that is not newer than
    `position`. If messages expired, it goes on at the first one left. (docs/pitfalls.md, items 18 and 19)
    """
    info = await inspect(broker, stream)
    same = created_ns(info) == position.created_ns and info.state.last_seq >= position.sequence
    if same and position.sequence >= max(info.state.first_seq, 1):
        # A deleted message counts as the one that was applied.
        same = await _time_of(broker, stream, position.sequence) in {None, position.time_ns // 1_000 * 1_000}
    if same:
        return position
    return StreamPosition(await _last_before(broker, stream, position.time_ns), position.time_ns, created_ns(info))


async def expired(broker: Broker, stream: str, position: StreamPosition) -> int:
    """Return how many messages after `position` the stream's limits removed before they were read."""
    info = await inspect(broker, stream)
    return max(info.state.first_seq - position.sequence - 1, 0) if position.sequence else 0


async def next_message(broker: Broker, stream: str, sequence: int) -> int | None:
    """Return the broker time (ns) of the first message after `sequence`; None if there is none."""
    with requests_to(broker, stream):
        try:
            message = await broker.jetstream.get_msg(stream, sequence + 1, ">", next=True)
        except NotFoundError:
            return None
    return None if message.time is None else _ns(message.time)


async def _time_of(broker: Broker, stream: str, sequence: int) -> int | None:
    """Return the broker time of a message, to the microsecond; None: it is gone."""
    with requests_to(broker, stream):
        try:
            message = await broker.jetstream.get_msg(stream, sequence)
        except NotFoundError as error:
            if error.err_code == _STREAM_NOT_FOUND:
                raise
            return None
    return None if message.time is None else _ns(message.time)


async def _last_before(broker: Broker, stream: str, time_ns: int) -> int:
    """Return the sequence of the last message that is not newer; the broker finds it by time."""
    after = time_ns + 1
    whole = _EPOCH + timedelta(seconds=after // _NANOSECOND)
    stamp = f"{whole:%Y-%m-%dT%H:%M:%S}.{after % _NANOSECOND:09d}Z"
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_TIME,
        opt_start_time=stamp,  # type: ignore[arg-type]  # passed on as it is; a datetime has no nanoseconds
        ack_policy=AckPolicy.NONE,
        mem_storage=True,
        num_replicas=1,
    )
    with requests_to(broker, stream):
        info = await broker.jetstream.add_consumer(stream, config)
    with suppress(nats.errors.Error):  # it expires by itself
        await broker.jetstream.delete_consumer(stream, info.name)
    return 0 if info.delivered is None else int(info.delivered.stream_seq)


def _ns(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000
