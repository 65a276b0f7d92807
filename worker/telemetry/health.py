"""Health and metrics over HTTP: `/healthz`, `/readyz`, `/metrics`. (docs/contract.md, section 7)"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from worker.settings import Settings, WrongSetting
from worker.telemetry import metrics


@dataclass(slots=True)
class Health:
    """What this replica still waits for; it is ready when it waits for nothing.

    `waiting_for` has a text for people by component. `nats_connected` is set once the first connection is up.
    """

    waiting_for: dict[str, str] = field(default_factory=lambda: {"start": "starting"})
    nats_connected: Callable[[], bool] = lambda: True

    def problems(self) -> dict[str, str]:
        """Return what is missing now, as texts for people by component; empty when the replica is ready."""
        return self.waiting_for | ({} if self.nats_connected() else {"nats": "not connected"})


@asynccontextmanager
async def served(settings: Settings, health: Health) -> AsyncIterator[None]:
    """Answer on `HEALTH_ADDR` and `METRICS_ADDR` in the block; `WrongSetting` if one is in use or does not resolve."""

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        missing = health.problems()
        body = {"status": "waiting", "for": missing} if missing else {"status": "ready"}
        return web.json_response(body, status=503 if missing else 200)

    async def latest(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    sites = {settings.health_addr: [web.get("/healthz", healthz), web.get("/readyz", readyz)]}
    sites.setdefault(settings.metrics_addr, []).append(web.get("/metrics", latest))
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
    except (OSError, UnicodeError):  # UnicodeError: the text is not a valid host name
        await runner.cleanup()
        raise WrongSetting(f"HEALTH_ADDR and METRICS_ADDR must be free to listen on: {address} is not") from None
    return runner
