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
from nats.micro.service import (
    EndpointInfo,
    EndpointStats,
    ServiceInfo,
    ServicePing,
    ServiceStats,
    ServiceVerb,
    control_subject,
)

NAME: Final = "room-keys"
DESCRIPTION: Final = "Room keys and their versions, for the members of a room."


@dataclass(slots=True)
class EndpointCounts:
    """One endpoint of this site, and the requests that it has answered since the start."""

    name: str
    subject: str
    requests: int = 0
    errors: int = 0
    nanoseconds: int = 0
    last_error: str = ""

    def add(self, nanoseconds: int, error: str | None) -> None:
        """Count a request that was answered after so many nanoseconds; `error` says why it failed, if it did."""
        self.requests += 1
        self.nanoseconds += nanoseconds
        if error is not None:
            self.errors += 1
            self.last_error = error


@dataclass(frozen=True, slots=True)
class Identity:
    """One instance of the service, as others see it. `queue` is the queue group of its endpoints."""

    site: str
    version: str
    queue: str
    endpoints: Sequence[EndpointCounts]
    id: str = field(default_factory=lambda: uuid4().hex)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    def subjects(self) -> dict[str, ServiceVerb]:
        """Return the discovery subjects, and the verb of each: for all services, this kind, and this instance."""
        return {
            control_subject(verb, *names): verb for verb in ServiceVerb for names in ((), (NAME,), (NAME, self.id))
        }

    def answer(self, verb: ServiceVerb) -> bytes:
        """Return the document for a verb, as JSON."""
        return orjson.dumps(_DOCUMENTS[verb](self))

    def _named(self) -> dict[str, Any]:
        return {"id": self.id, "name": NAME, "version": self.version, "metadata": {"site": self.site}}

    def _ping(self) -> dict[str, Any]:
        return ServicePing(**self._named()).to_dict()

    def _info(self) -> dict[str, Any]:
        endpoints = [EndpointInfo(item.name, item.subject, self.queue) for item in self.endpoints]
        return ServiceInfo(**self._named(), description=DESCRIPTION, endpoints=endpoints).to_dict()

    def _stats(self) -> dict[str, Any]:
        endpoints = [
            EndpointStats(
                name=item.name,
                subject=item.subject,
                queue_group=self.queue,
                num_requests=item.requests,
                num_errors=item.errors,
                processing_time=item.nanoseconds,
                average_processing_time=item.nanoseconds // max(item.requests, 1),
                last_error=item.last_error,
            )
            for item in self.endpoints
        ]
        return ServiceStats(**self._named(), started=self.started, endpoints=endpoints).to_dict()


_DOCUMENTS: Final = {
    ServiceVerb.PING: Identity._ping,  # noqa: SLF001
    ServiceVerb.INFO: Identity._info,  # noqa: SLF001
    ServiceVerb.STATS: Identity._stats,  # noqa: SLF001
}
