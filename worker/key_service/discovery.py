"""Discovery: how `nats micro ls`, `info` and `stats` find the service, and what it counts.

The documents come from nats-py; the subscriptions do not. nats-py's own service handles one request at a time
per endpoint, replies to whatever address a request names, copies the request's headers into the reply, and puts
the text of any error into it. (ADR 0009)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import orjson
from nats.micro import service as micro
from nats.micro.service import EndpointStats, ServiceVerb

NAME: Final = "room-keys"
DESCRIPTION: Final = "Room keys and their versions, for the members of a room."


def count(stats: EndpointStats, nanoseconds: int, error: str | None) -> None:
    """Count a request that was answered after so many nanoseconds; `error` says why it failed, if it did."""
    stats.num_requests += 1
    stats.processing_time += nanoseconds
    stats.average_processing_time = stats.processing_time // stats.num_requests
    if error is not None:
        stats.num_errors += 1
        stats.last_error = error


@dataclass(frozen=True, slots=True)
class Identity:
    """One instance of the service, as others see it."""

    site: str
    version: str
    endpoints: Sequence[EndpointStats]
    id: str = field(default_factory=lambda: uuid4().hex)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    def subjects(self) -> dict[str, ServiceVerb]:
        """Return the discovery subjects, and the verb of each: for all services, this kind, and this instance."""
        addressed: tuple[tuple[str, ...], ...] = ((), (NAME,), (NAME, self.id))
        return {micro.control_subject(verb, *names): verb for verb in ServiceVerb for names in addressed}

    def answer(self, verb: ServiceVerb) -> bytes:
        """Return the document for a verb, as JSON."""
        named: dict[str, Any] = {"id": self.id, "name": NAME, "version": self.version, "metadata": {"site": self.site}}
        document: micro.ServicePing | micro.ServiceInfo | micro.ServiceStats
        match verb:
            case ServiceVerb.PING:
                document = micro.ServicePing(**named)
            case ServiceVerb.INFO:
                endpoints = [micro.EndpointInfo(item.name, item.subject, item.queue_group) for item in self.endpoints]
                document = micro.ServiceInfo(**named, description=DESCRIPTION, endpoints=endpoints)
            case ServiceVerb.STATS:
                document = micro.ServiceStats(**named, started=self.started, endpoints=list(self.endpoints))
        return orjson.dumps(document.to_dict())
