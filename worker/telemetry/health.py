"""The health of this process: what it still waits for, served over HTTP together with its metrics."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from prometheus_client import generate_latest

from worker.limits import Limits
from worker.settings import Settings, WrongSetting
from worker.telemetry import metrics, pages
from worker.telemetry.listener import AddressInUse, address_in_use


@dataclass(slots=True)
class Health:
    """What this process still waits for; it is ready when it waits for nothing.

    `waiting_for` has a text for people by component. Each of `checks` returns such a text while something is wrong.
    """

    waiting_for: dict[str, str] = field(default_factory=lambda: {"start": "starting"})
    checks: dict[str, Callable[[], str | None]] = field(default_factory=dict)

    def problems(self) -> dict[str, str]:
        """Return what is missing now, as texts for people by component; empty when the process is ready."""
        found = {component: check() for component, check in self.checks.items()}
        return self.waiting_for | {component: text for component, text in found.items() if text is not None}


@asynccontextmanager
async def served(settings: Settings, health: Health, limits: Limits) -> AsyncIterator[None]:
    """Answer on `HEALTH_ADDR` and `METRICS_ADDR` in the block; `WrongSetting` if one is in use or does not resolve."""

    async def stuck() -> Mapping[str, str]:
        return {}

    async def missing() -> Mapping[str, str]:
        return health.problems()

    async def latest() -> bytes:
        return latest_metrics()

    source = pages.Source(stuck, missing, latest)
    try:
        async with pages.served(settings.health_addr, settings.metrics_addr, source, limits):
            yield
    except AddressInUse as error:
        raise WrongSetting(address_in_use(error)) from None


def latest_metrics() -> bytes:
    """Return the metrics of this process, in the text format of Prometheus."""
    return generate_latest(metrics.REGISTRY)
