"""Metrics in the format of Prometheus, served on `/metrics`.

Labels name operations and causes, never rooms or accounts. Names and labels are public (docs/versioning.md);
docs/reference/metrics.md is generated from this file.
"""

from contextlib import AbstractContextManager
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY: Final = CollectorRegistry()
_counter: Final = partial(Counter, namespace="room_worker", registry=REGISTRY)
_gauge: Final = partial(Gauge, namespace="room_worker", registry=REGISTRY)
_histogram: Final = partial(Histogram, namespace="room_worker", registry=REGISTRY)

INFO: Final = _gauge(
    "info",
    "Always 1. The labels name this replica (empty for a key service alone) and its version.",
    ["replica", "version"],
)
EVENTS: Final = _counter("events", "Finished events, by operation and status: ok or error.", ["operation", "status"])
SKIPPED: Final = _counter(
    "skipped", "Stream messages skipped because they belong to other services or are delete markers."
)
DEAD_LETTERS: Final = _counter(
    "dead_letters", "Events that can never succeed, published as dead letters, by reason.", ["reason"]
)
ROTATIONS: Final = _counter("rotations", "Room keys that became current.")
RECIPIENTS: Final = _counter("recipients", "Room keys published: one per key and recipient.")
REFUSED: Final = _counter(
    "refused_recipients",
    "Recipients skipped because their account is not a valid token, and messages dropped because their subject or"
    " headers would forge a protocol line.",
)
OVERSIZED: Final = _counter("oversized", "Messages dropped because they exceed the server's maximum payload.")
BATCHES: Final = _histogram("batch_events", "Events per batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512))
STEPS: Final = _histogram(
    "step_seconds", "Duration of a step of the loop: read, apply, deliver, settle, announce or tidy.", ["step"]
)
RETRIES: Final = _counter(
    "retries", "Attempts repeated, by cause: conflict, unexpected, unconfirmed or pass.", ["cause"]
)
INTERRUPTIONS: Final = _counter(
    "interruptions",
    "Times something could not go on, by cause: database, broker, conflict (another writer), denied (a key, by the"
    " broker), dead_letter (its stream refused it), event (an event failed alone), or internal (an error in the"
    " worker).",
    ["cause"],
)
SET_ASIDE: Final = _gauge(
    "rooms_set_aside", "Rooms whose events wait because they failed, by partition.", ["partition"]
)
STREAM_FAULTS: Final = _counter(
    "stream_faults",
    "Times the events stream was found re-created or truncated, or had deleted events before they were read.",
)
BROKER_ERRORS: Final = _counter("broker_errors", "Errors of the connection to NATS, by kind.", ["kind"])
DENIED: Final = _counter(
    "denied",
    "Denials by the broker, by kind: key (one per recipient and attempt), notice, result, dead_letter, jetstream,"
    " subscription or other.",
    ["kind"],
)
UNDELIVERED_LETTERS: Final = _gauge(
    "undelivered_letters", "Dead letters that wait because the dead-letter stream does not take them."
)
DISCONNECTS: Final = _counter("disconnects", "Times the connection to NATS was lost.")
DATABASE_UP: Final = _gauge("database_up", "1 while MongoDB answers this replica, otherwise 0.")
BROKER_UP: Final = _gauge("broker_up", "1 while this replica is connected to NATS, otherwise 0.")
PARTITIONS: Final = _gauge("partitions", "Partitions that this replica owns.")
PENDING: Final = _gauge(
    "pending_events",
    "Events for this replica's partitions that are not applied yet, and stream messages that it has not read yet.",
)
OLDEST: Final = _gauge("oldest_event_seconds", "Age of the oldest event that is not applied yet, or 0.")
LAG: Final = _gauge("waiting_events", "Events read and not yet applied, by partition.", ["partition"])
REQUESTS: Final = _counter(
    "requests",
    "Requests to the key service, by endpoint and outcome: ok, an error code, unanswered when the reply address"
    " is not allowed, or dropped when the account is far beyond its rate limit.",
    ["endpoint", "outcome"],
)
REQUEST_SECONDS: Final = _histogram(
    "request_seconds", "Time from a request to the key service to its reply.", ["endpoint"]
)
LOOKUPS: Final = _histogram(
    "lookup_requests",
    "Requests to the key service answered by one read of the database.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
)
RESTARTS: Final = _counter(
    "restarts", "Times that the supervisor restarted a half of the service: worker or service.", ["half"]
)


def step(name: str) -> AbstractContextManager[object]:
    """Measure a step of the loop: read, apply, deliver, settle, announce, or tidy (finished outbox entries)."""
    return STEPS.labels(name).time()
