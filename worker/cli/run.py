"""`room-worker run`: the service."""

import asyncio
import gc
from functools import partial
from typing import Final, get_args

import click

from worker import app
from worker.app import Role
from worker.cli.terminal.output import example
from worker.cli.terminal.process import serve
from worker.settings import read_settings
from worker.telemetry.logs import configure

COLLECT_AFTER: Final = (50_000, 20, 50)
"""How many new objects a collection of cycles waits for: a batch makes thousands, none of them in a cycle.

With the defaults (700, 10, 10) much of a backlog's time goes into looking for cycles among them.
"""


@click.command(
    epilog=example(
        "SITE_ID=berlin NATS_URL=nats://nats:4222 MONGO_URI=mongodb://mongo/?replicaSet=rs0 room-worker run"
    )
)
@click.option("--only", type=click.Choice(get_args(Role)), help="Run one half of it, the other one elsewhere.")
def run(only: Role | None) -> None:
    """Run the service, with its settings from the environment.

    It consumes events, sends room keys and answers requests until SIGTERM or Ctrl-C; then it finishes the
    batch in hand, hands its partitions over and exits 0. A wrong setting ends it at once with exit code 2;
    a server that is away is waited for. The worker consumes and sends, the service answers requests: each can
    run alone, on as many machines as it needs.
    """
    serve(partial(_run, only))


async def _run(only: Role | None, stop: asyncio.Event) -> None:
    settings = read_settings()
    configure(settings.log_level, settings.log_format)
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    await app.run(settings, stop, only)
