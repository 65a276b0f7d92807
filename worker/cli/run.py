"""`room-worker run`: the service."""

import asyncio
import gc
from typing import Final, get_args

import click

from worker import app
from worker.app import Role
from worker.cli.terminal.output import example
from worker.cli.terminal.process import until_stopped
from worker.settings import read_settings
from worker.telemetry.logs import configure

COLLECT_AFTER: Final = (50_000, 20, 50)
"""Thresholds of the garbage collector: how many new objects start a search for cycles.

A batch makes thousands of objects, and none of them is in a cycle. With the default thresholds (700, 10, 10) the
searches take much of the time in which a backlog is processed.
"""


@click.command(
    epilog=example("SITE_ID=berlin NATS_URL=nats://nats:4222 MONGO_URI=mongodb://mongo/?replicaSet=rs0 room-worker run")
)
@click.option("--only", type=click.Choice(get_args(Role)), help="Run only the event worker or only the key service.")
@until_stopped
async def run(stop: asyncio.Event, only: Role | None) -> None:
    """Run the service: the event worker and the key service.

    The event worker consumes events and sends room keys. The key service answers members who ask for keys. Each
    can run alone (--only), in as many processes as it needs.

    A wrong setting ends the service at once with exit code 2. While a server cannot be reached, the service
    retries. On SIGTERM or Ctrl-C it finishes its current batch, hands over its partitions and exits with code 0.
    """
    settings = read_settings()
    configure(settings.log_level, settings.log_format)
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    await app.run(settings, stop, only)
