"""`room-worker dev`: the servers of the demo and a worker, left running for experiments."""

import asyncio
import os
import shlex
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import click

from worker.cli.demo.sandbox import local_settings, prepare, running_worker
from worker.cli.terminal.examples import ACCOUNTS, TOUR, program
from worker.cli.terminal.output import example, json_option, safe, show, show_json
from worker.cli.terminal.process import until_stopped
from worker.local.ports import free_port
from worker.local.servers import MongoServer, NatsServer
from worker.settings import Settings, read_settings
from worker.telemetry.logs import configure

_PORT: Final = click.IntRange(0, 65_535)


@click.command(epilog=example("room-worker dev", "room-worker dev --nats-port 4222 --mongo-port 27017 --folder data"))
@click.option("--nats-port", type=_PORT, default=0, help="Port of NATS.  [default: a free port]")
@click.option("--mongo-port", type=_PORT, default=0, help="Port of MongoDB.  [default: a free port]")
@click.option("--http-port", type=_PORT, default=0, help="Port of health and metrics.  [default: a free port]")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False, resolve_path=True),
              help="Folder that keeps the data.  [default: a temporary folder]")  # fmt: skip
@json_option
@until_stopped
async def dev(
    stop: asyncio.Event, nats_port: int, mongo_port: int, http_port: int, folder: Path | None, *, as_json: bool
) -> None:
    """Run servers and a worker on this machine.

    Starts a NATS server, a MongoDB and a worker, and runs them until Ctrl-C. Prints their addresses, existing
    users, and commands to try. Other settings come from the environment.
    """
    with TemporaryDirectory(prefix="room-worker-dev-", ignore_cleanup_errors=True) as temporary:
        data = folder or Path(temporary)
        nats, mongo = NatsServer(data / "nats", port=nats_port), MongoServer(data / "mongo", port=mongo_port)
        log_format = os.environ.get("LOG_FORMAT") or "console"
        settings = read_settings(**local_settings(nats, mongo, http_port or free_port()), log_format=log_format)
        configure(settings.log_level, settings.log_format)
        async with nats, mongo:
            await prepare(settings, ACCOUNTS)
            async with running_worker(settings):
                (show_json if as_json else _show)(addresses(settings, data))
                await stop.wait()


def addresses(settings: Settings, folder: Path) -> dict[str, Any]:
    """Return what other programs need to use the servers: addresses and variables."""
    servers = {"NATS_URL": settings.nats_url[0], "MONGO_URI": settings.mongo_uri.get_secret_value()}
    variables = {**servers, "MONGO_DB": settings.mongo_db, "SITE_ID": settings.site_id}
    http = f"http://{settings.health_addr}"
    urls = {"health": f"{http}/readyz", "metrics": f"{http}/metrics"}
    return {"environment": variables, **urls, "users": list(ACCOUNTS), "folder": str(folder)}


def _show(about: dict[str, Any]) -> None:
    variables = about["environment"]
    for name, value in (
        ("NATS", variables["NATS_URL"]),
        ("MongoDB", f"{variables['MONGO_URI']}, database {variables['MONGO_DB']}"),
        ("health", about["health"]),
        ("metrics", about["metrics"]),
        ("users", ", ".join(about["users"])),
        ("data", about["folder"]),
    ):
        show((f"{name:9}", "bold"), safe(value))
    show("\nIn another terminal:\n")
    for name, value in variables.items():
        show(f"export {name}={shlex.quote(value)}")
    show("")
    for words in TOUR:
        show((f"{shlex.quote(program())} {words}", "cyan"))
    show("\nPress Ctrl-C to stop.")
