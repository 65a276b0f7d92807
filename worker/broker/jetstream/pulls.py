"""How a consumer pulls: what JetStream allows it, and where a delivered message stands.

The limits come from the stream, the account and the server. JetStream returns most of them with the consumer.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Self

import orjson
from nats.js.errors import APIError

from worker.broker.connection import Broker
from worker.limits import Limits

_EXPIRES_S: Final = 30.0
_INACTIVE_S: Final = 60.0
_NANOSECOND: Final = 1_000_000_000
_ACK_FIELDS: Final = 9
_TIMEOUT_S: Final = 5.0


class Pulls(NamedTuple):
    """What a consumer requests at once: `requests` pull requests of at most `batch` messages each.

    JetStream ends a request after `max_bytes` bytes (0: no limit) or `expires_s` seconds.
    """

    batch: int
    requests: int
    max_bytes: int
    expires_s: float

    @property
    def messages(self) -> int:
        """Return the messages of all requests together."""
        return self.batch * self.requests

    def of_one_message(self) -> Self:
        """Return requests for a message that is larger than `max_bytes`."""
        return self._replace(batch=1, requests=1, max_bytes=0)

    @classmethod
    def within(cls, config: Mapping[str, Any], limits: Limits, max_payload: int) -> Self:
        """Return the largest requests that the consumer's configuration allows, two of each at a time."""
        batch = min(limits.pull_messages, config.get("max_batch") or limits.pull_messages)
        in_memory = max(limits.pull_bytes, 2 * max_payload) // (2 * max_payload)
        allowed = (config.get("max_waiting") or 2 * limits.pull_messages) // 2
        requests = max(min(limits.pull_messages // batch, in_memory, allowed), 1)
        size = max(limits.pull_bytes // requests, 2 * max_payload)
        size = min(size, config.get("max_bytes") or size)
        expires_s = min(_EXPIRES_S, (config.get("max_expires") or _EXPIRES_S * _NANOSECOND) / _NANOSECOND)
        return cls(batch, requests, size, expires_s)


class Delivery(NamedTuple):
    """Where a message stands: its sequence in the stream, its number among the consumer's messages, its time (ns).

    `pending` is how many messages the consumer still had to deliver after it.
    """

    sequence: int
    number: int
    time_ns: int
    pending: int


def delivery_of(reply: str, consumer: str) -> Delivery | None:
    """Return where a message stands, from its reply address; None: the consumer did not send this message.

    The address is `$JS.ACK.[domain.account.]stream.consumer.delivered.stream_seq.consumer_seq.time.pending[.random]`.
    """
    fields = reply.split(".")
    at = 5 if len(fields) == _ACK_FIELDS else 7
    try:
        if fields[at - 2] == consumer:
            return Delivery(*(int(field) for field in fields[at : at + 4]))
    except (IndexError, TypeError, ValueError):
        pass
    return None


async def create_consumer(broker: Broker, stream: str, start: int, limits: Limits) -> tuple[str, int, Pulls]:
    """Create a consumer of the messages from `start` on; return its name, how many there are, and how it may pull."""
    threshold = (await broker.jetstream.stream_info(stream)).config.consumer_limits
    inactive_s = min(_INACTIVE_S, (threshold and threshold.inactive_threshold) or _INACTIVE_S)
    config = {
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": start,
        "ack_policy": "none",
        "inactive_threshold": int(inactive_s * _NANOSECOND),
        "mem_storage": True,
        "num_replicas": 1,
    }
    request = orjson.dumps({"stream_name": stream, "config": config})
    # nats-py's own call leaves out the limits of the answer.
    answer = await broker.client.request(f"$JS.API.CONSUMER.CREATE.{stream}", request, timeout=_TIMEOUT_S)
    created = orjson.loads(answer.data)
    if "error" in created:
        APIError.from_error(created["error"])
    return created["name"], created["num_pending"], Pulls.within(created["config"], limits, broker.max_payload)
