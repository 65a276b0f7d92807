"""Discovery: how `nats micro ls`, `info` and `stats` find the service and what it counts.

The documents are nats-py's, the subscriptions are not: the library's service answers one request at a time an
endpoint, wherever a reply address points, with the request's own headers and with the text of any error.
"""

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
class Counts:
    """What one endpoint has done since it started."""

    requests: int = 0
    errors: int = 0
    nanoseconds: int = 0
    last_error: str = ""

    def add(self, nanoseconds: int, error: str | None) -> None:
        """Count a request that has been answered."""
        self.requests += 1
        self.nanoseconds += nanoseconds
        if error is not None:
            self.errors += 1
            self.last_error = error


@dataclass(frozen=True, slots=True)
class Identity:
    """One instance of the service, as the others see it; `counts` by endpoint's name and subject."""

    site: str
    version: str
    queue: str
    counts: dict[tuple[str, str], Counts]
    id: str = field(default_factory=lambda: uuid4().hex)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    def subjects(self) -> dict[str, ServiceVerb]:
        """Return the subjects of discovery and what is asked for on each: of all services, these, or this one."""
        return {
            control_subject(verb, *names): verb for verb in ServiceVerb for names in ((), (NAME,), (NAME, self.id))
        }

    def answer(self, verb: ServiceVerb) -> bytes:
        """Return the document that is asked for."""
        return orjson.dumps(_DOCUMENTS[verb](self))

    def _named(self) -> dict[str, Any]:
        return {"id": self.id, "name": NAME, "version": self.version, "metadata": {"site": self.site}}

    def _ping(self) -> dict[str, Any]:
        return ServicePing(**self._named()).to_dict()

    def _info(self) -> dict[str, Any]:
        endpoints = [EndpointInfo(name, subject, self.queue) for name, subject in self.counts]
        return ServiceInfo(**self._named(), description=DESCRIPTION, endpoints=endpoints).to_dict()

    def _stats(self) -> dict[str, Any]:
        endpoints = [
            EndpointStats(
                name=name,
                subject=subject,
                queue_group=self.queue,
                num_requests=counts.requests,
                num_errors=counts.errors,
                processing_time=counts.nanoseconds,
                average_processing_time=counts.nanoseconds // max(counts.requests, 1),
                last_error=counts.last_error,
            )
            for (name, subject), counts in self.counts.items()
        ]
        return ServiceStats(**self._named(), started=self.started, endpoints=endpoints).to_dict()


_DOCUMENTS: Final = {
    ServiceVerb.PING: Identity._ping,  # noqa: SLF001
    ServiceVerb.INFO: Identity._info,  # noqa: SLF001
    ServiceVerb.STATS: Identity._stats,  # noqa: SLF001
}
