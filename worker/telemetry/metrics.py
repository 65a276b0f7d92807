"""Metrics in the format of Prometheus, served on `/metrics`.

Labels name operations and causes, never rooms or accounts. Names and labels are public (docs/versioning.md);
docs/reference/metrics.md is generated from this file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY: Final = CollectorRegistry()

EVENTS: Final = Counter(
    "room_worker_events",
    "Finished events, by operation and status: ok or error.",
    ["operation", "status"],
    registry=REGISTRY,
)
SKIPPED: Final = Counter(
    "room_worker_skipped", "Stream messages skipped because they belong to other services.", registry=REGISTRY
)
DEAD_LETTERS: Final = Counter(
    "room_worker_dead_letters",
    "Events that can never succeed, published as dead letters, by reason.",
    ["reason"],
    registry=REGISTRY,
)
ROTATIONS: Final = Counter("room_worker_rotations", "Room keys that became current.", registry=REGISTRY)
RECIPIENTS: Final = Counter(
    "room_worker_recipients", "Room keys published: one per key and recipient.", registry=REGISTRY
)
REFUSED: Final = Counter(
    "room_worker_refused_recipients",
    "Recipients skipped because their account is not a valid token, and messages dropped because their subject or"
    " headers would forge a protocol line.",
    registry=REGISTRY,
)
OVERSIZED: Final = Counter(
    "room_worker_oversized",
    "Messages dropped because they exceed the server's maximum payload.",
    registry=REGISTRY,
)
BATCHES: Final = Histogram(
    "room_worker_batch_events",
    "Events per batch.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
    registry=REGISTRY,
)
STEPS: Final = Histogram(
    "room_worker_step_seconds",
    "Duration of a step of the loop: read, apply, deliver, settle, announce or tidy.",
    ["step"],
    registry=REGISTRY,
)
RETRIES: Final = Counter(
    "room_worker_retries",
    "Attempts repeated, by cause: conflict, unexpected, unconfirmed or pass.",
    ["cause"],
    registry=REGISTRY,
)
STREAM_FAULTS: Final = Counter(
    "room_worker_stream_faults",
    "Times the events stream was found re-created or truncated, or had deleted events before they were read.",
    registry=REGISTRY,
)
BROKER_ERRORS: Final = Counter(
    "room_worker_broker_errors", "Errors of the connection to NATS, by kind.", ["kind"], registry=REGISTRY
)
DISCONNECTS: Final = Counter(
    "room_worker_disconnects", "Times the connection to NATS was lost.", registry=REGISTRY
)
PARTITIONS: Final = Gauge("room_worker_partitions", "Partitions that this replica owns.", registry=REGISTRY)
LAG: Final = Gauge(
    "room_worker_waiting_events",
    "Events read and not yet applied, by partition.",
    ["partition"],
    registry=REGISTRY,
)
REQUESTS: Final = Counter(
    "room_worker_requests",
    "Requests to the key service, by endpoint and outcome: ok, an error code, or unanswered when the reply address"
    " is not allowed.",
    ["endpoint", "outcome"],
    registry=REGISTRY,
)
REQUEST_SECONDS: Final = Histogram(
    "room_worker_request_seconds",
    "Time from a request to the key service to its reply.",
    ["endpoint"],
    registry=REGISTRY,
)
LOOKUPS: Final = Histogram(
    "room_worker_lookup_requests",
    "Requests to the key service answered by one read of the database.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
    registry=REGISTRY,
)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Measure a step of the loop: read, apply, deliver, settle, announce, or tidy.

    "tidy" deletes finished outbox entries.
    """
    with STEPS.labels(name).time():
        yield
