"""Health and metrics over HTTP: `/healthz`, `/readyz`, `/metrics`. (contract.md, section 7)"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from worker.broker.connection import Broker
from worker.settings import Settings, WrongSetting
from worker.telemetry import metrics


@dataclass(slots=True)
class Health:
    """What still stands between this replica and its work; it is ready when nothing does."""

    waiting_for: dict[str, str] = field(default_factory=lambda: {"start": "starting"})
    broker: Broker | None = None

    def problems(self) -> dict[str, str]:
        """Return what is missing, by part, in words for people."""
        missing = dict(self.waiting_for)
        if self.broker is not None and not self.broker.connected:
            missing["nats"] = "not connected"
        return missing


@asynccontextmanager
async def served(settings: Settings, health: Health) -> AsyncIterator[None]:
    """Answer on `HEALTH_ADDR` and `METRICS_ADDR` for as long as the context lasts."""

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        missing = health.problems()
        body = {"status": "waiting", "for": missing} if missing else {"status": "ready"}
        return web.json_response(body, status=503 if missing else 200)

    async def latest(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    health_routes = [web.get("/healthz", healthz), web.get("/readyz", readyz)]
    metrics_routes = [web.get("/metrics", latest)]
    if settings.health_addr == settings.metrics_addr:
        sites = {settings.health_addr: health_routes + metrics_routes}
    else:
        sites = {settings.health_addr: health_routes, settings.metrics_addr: metrics_routes}
    async with AsyncExitStack() as stack:
        for address, routes in sites.items():
            stack.push_async_callback((await _listen(address, routes)).cleanup)
        yield


async def _listen(address: str, routes: list[web.RouteDef]) -> web.AppRunner:
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    host, _, port = address.rpartition(":")
    try:
        await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
    except (OSError, UnicodeError):  # no name of a host can be made of it
        await runner.cleanup()
        raise WrongSetting(f"HEALTH_ADDR and METRICS_ADDR must be free to listen on: {address} is not") from None
    return runner
