"""What is seen of a replica: its gauges, why it is not ready, and what its heartbeat says of it."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from store.leases.heartbeats import Condition
from worker.broker.connection import Broker
from worker.clock import Clock
from worker.replica.feed import Feed
from worker.replica.partitions import Partitions
from worker.replica.readiness.ability import Ability
from worker.telemetry import metrics
from worker.telemetry.outage import Outage

_NAMED: Final = 3
"""How many partitions that stand `/readyz` names."""


@dataclass(slots=True, eq=False)
class Watch:
    """Looks at the partitions of this replica now and then. It asks no server."""

    partitions: Partitions
    feed: Feed
    broker: Broker
    database_outage: Outage
    version: str
    lease_s: float
    clock: Clock
    ability: Ability = field(init=False)

    def __post_init__(self) -> None:
        self.ability = Ability(self.lease_s)

    async def run(self, every_s: float) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(every_s)

    def look(self) -> None:
        """Look whether each partition moves and each server answers, and set the gauges."""
        if self.partitions.waits_s > self.lease_s / 2:
            self.database_outage.failed("MongoDB does not answer")
        for partition in self.partitions.running:
            partition.look()
        self.ability.update(self._prevented())
        metrics.DATABASE_UP.set(self.database_outage.cause is None)
        metrics.BROKER_UP.set(self.broker.connected)
        self._measure_backlog()

    def _measure_backlog(self) -> None:
        backlogs = [partition.backlog() for partition in self.partitions.running]
        times = [self.feed.stream.first_unread_ns, *(backlog.oldest_ns for backlog in backlogs)]
        oldest_ms = min((time_ns // 1_000_000 for time_ns in times if time_ns is not None), default=None)
        metrics.PENDING.set(sum(backlog.events for backlog in backlogs) + (self.feed.unread if backlogs else 0))
        metrics.OLDEST.set(0 if oldest_ms is None else max(self.clock() - oldest_ms, 0) / 1_000)

    def condition(self) -> Condition:
        """Return what the replica says of itself with its next heartbeat."""
        return Condition(self.version, self.ability.unable, self._standing(self.lease_s))

    def checks(self) -> Mapping[str, Callable[[], str | None]]:
        """Return, by component, what says why this replica is not ready."""
        return {
            "mongodb": lambda: self.database_outage.problem(self.lease_s),
            "events": lambda: self.feed.stream.outage.problem(self.lease_s),
            "partitions": self._standing_text,
            "cursors": lambda: self.partitions.problem,
        }

    def _standing(self, after_s: float) -> dict[int, str]:
        """Return, by partition, why it has not moved for so long."""
        found = {partition.number: partition.progress.problem(after_s) for partition in self.partitions.running}
        return {number: text for number, text in found.items() if text is not None}

    def _standing_text(self) -> str | None:
        standing = [f"partition {number} {text}" for number, text in sorted(self._standing(self.lease_s).items())]
        more = len(standing) - _NAMED
        return "; ".join([*standing[:_NAMED], *([f"and {more} more"] if more > 0 else [])]) or None

    def _prevented(self) -> str | None:
        """Return what prevents this replica from reading or writing.

        Other replicas leave it out half a lease after that, see `serving_ids`.
        """
        after_s = self.lease_s / 2
        cannot_read = self.broker.outage.problem(after_s) or self.feed.stream.outage.problem(after_s)
        return cannot_read or self._cannot_write(after_s)

    def _cannot_write(self, after_s: float) -> str | None:
        """Return why all partitions that have something to do stand, if it is because a server refuses."""
        busy = [partition.progress for partition in self.partitions.running if partition.progress.is_busy]
        causes = [progress.problem(after_s) for progress in busy if progress.is_refused]
        return causes[0] if len(causes) == len(busy) and all(causes) and causes else None
