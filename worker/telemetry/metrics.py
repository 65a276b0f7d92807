"""Metrics, as Prometheus reads them on `/metrics`. Labels name operations and causes, never rooms or accounts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY: Final = CollectorRegistry()

EVENTS: Final = Counter(
    "room_worker_events", "Events finished, by operation and outcome.", ["operation", "status"], registry=REGISTRY
)
SKIPPED: Final = Counter("room_worker_skipped", "Events of other services, skipped.", registry=REGISTRY)
DEAD_LETTERS: Final = Counter(
    "room_worker_dead_letters", "Events given up, by reason.", ["reason"], registry=REGISTRY
)
ROTATIONS: Final = Counter("room_worker_rotations", "Room keys that became current.", registry=REGISTRY)
RECIPIENTS: Final = Counter("room_worker_recipients", "Room keys published.", registry=REGISTRY)
REFUSED: Final = Counter(
    "room_worker_refused_recipients",
    "Accounts in the database that are no tokens, and notices that would forge a line.",
    registry=REGISTRY,
)
OVERSIZED: Final = Counter(
    "room_worker_oversized", "Notices that were larger than the broker takes and were left out.", registry=REGISTRY
)
BATCHES: Final = Histogram(
    "room_worker_batch_events",
    "Events a batch.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
    registry=REGISTRY,
)
STEPS: Final = Histogram("room_worker_step_seconds", "Time a step of the loop takes.", ["step"], registry=REGISTRY)
RETRIES: Final = Counter("room_worker_retries", "Batches tried again, by cause.", ["cause"], registry=REGISTRY)
STREAM_FAULTS: Final = Counter(
    "room_worker_stream_faults", "Times the stream was found re-made, shortened or expired.", registry=REGISTRY
)
BROKER_ERRORS: Final = Counter(
    "room_worker_broker_errors", "Errors the broker reported, by kind.", ["kind"], registry=REGISTRY
)
DISCONNECTS: Final = Counter("room_worker_disconnects", "Times the broker connection broke.", registry=REGISTRY)
PARTITIONS: Final = Gauge("room_worker_partitions", "Partitions this replica owns.", registry=REGISTRY)
LAG: Final = Gauge(
    "room_worker_waiting_events",
    "Events read and not yet applied, by partition.",
    ["partition"],
    registry=REGISTRY,
)
REQUESTS: Final = Counter(
    "room_worker_requests",
    "Requests, by endpoint and outcome: ok, an error code, or unanswered for want of a reply address.",
    ["endpoint", "outcome"],
    registry=REGISTRY,
)
REQUEST_SECONDS: Final = Histogram(
    "room_worker_request_seconds", "Time a request takes.", ["endpoint"], registry=REGISTRY
)
LOOKUPS: Final = Histogram(
    "room_worker_lookup_requests",
    "Requests that one read of the database answered.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
    registry=REGISTRY,
)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Measure a step of the loop: read, apply, deliver, settle, announce or strike."""
    with STEPS.labels(name).time():
        yield
