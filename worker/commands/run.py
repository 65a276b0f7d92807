"""`room-worker run`: the service."""

import asyncio

import click

from worker import app
from worker.commands.printing import example
from worker.commands.running import serve
from worker.logs import configure
from worker.settings import read_settings


@click.command(
    epilog=example(
        "SITE_ID=berlin NATS_URL=nats://nats:4222 MONGO_URI=mongodb://mongo/?replicaSet=rs0 room-worker run"
    )
)
def run() -> None:
    """Run the service, with its settings from the environment.

    It consumes events, sends room keys and answers requests until SIGTERM or Ctrl-C; then it finishes the
    batch in hand, hands its partitions over and exits 0. A wrong setting ends it at once with exit code 2;
    a server that is away is waited for.
    """
    serve(_run)


async def _run(stop: asyncio.Event) -> None:
    settings = read_settings()
    configure(settings.log_level, settings.log_format)
    await app.run(settings, stop)
