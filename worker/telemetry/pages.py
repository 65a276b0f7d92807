"""The pages `/healthz`, `/readyz` and `/metrics` of a process. (docs/contract.md, section 7)

What they say comes from a `Source`: this process (`worker/telemetry/health.py`), or other processes that it asks. So
nothing large is imported here.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from worker.limits import Limits
from worker.telemetry.listener import Page, Pages, listening

PROMETHEUS: Final = "text/plain; version=1.0.0; charset=utf-8"
"""The type of the text format that `/metrics` has."""


@dataclass(frozen=True, slots=True)
class Source:
    """What the pages say: texts for people by component, and metrics in the text format of Prometheus.

    `stuck` returns what does not answer at all, `missing` what the replica waits for. Both are empty if all is well.
    """

    stuck: Callable[[], Awaitable[Mapping[str, str]]]
    missing: Callable[[], Awaitable[Mapping[str, str]]]
    metrics: Callable[[], Awaitable[bytes]]


@asynccontextmanager
async def served(health_addr: str, metrics_addr: str, source: Source, limits: Limits) -> AsyncIterator[None]:
    """Serve the pages for the length of the block; `AddressInUse` if an address is taken."""

    async def healthz() -> Page:
        return _state("ok", "stuck", await source.stuck())

    async def readyz() -> Page:
        return _state("ready", "waiting", await source.missing())

    async def metrics() -> Page:
        return Page(await source.metrics(), PROMETHEUS)

    sites: dict[str, Pages] = {health_addr: {"/healthz": healthz, "/readyz": readyz}}
    sites[metrics_addr] = {**sites.get(metrics_addr, {}), "/metrics": metrics}
    async with AsyncExitStack() as stack:
        for address, pages in sites.items():
            await stack.enter_async_context(listening(address, pages, limits))
        yield


def _state(good: str, bad: str, problems: Mapping[str, str]) -> Page:
    document = {"status": bad, "for": dict(problems)} if problems else {"status": good}
    status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
    return Page(json.dumps(document).encode(), status=status)
