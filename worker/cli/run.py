"""`room-worker run`: the service."""

import sys
from typing import Final, Literal

import click

from worker.process.supervisor import supervise

_EXAMPLE: Final = "SITE_ID=berlin NATS_URL=nats://nats:4222 MONGO_URI=mongodb://mongo/?replicaSet=rs0 room-worker run"


@click.command(epilog=f"\b\nExample:\n  {_EXAMPLE}")
@click.option(
    "--only", type=click.Choice(["worker", "service"]), help="Run only the event worker or only the key service."
)
@click.option("--supervised", type=int, hidden=True, help="How often the supervisor has restarted this half.")
def run(only: Literal["worker", "service"] | None, supervised: int | None) -> None:
    """Run the service: the event worker and the key service.

    The event worker consumes events and sends room keys. The key service answers members who ask for keys. They
    run in two processes, and a process that ends is restarted. Each can run alone (--only), as often as needed.

    A wrong setting ends the service at once with exit code 2. While a server cannot be reached, the service
    retries. On SIGTERM or Ctrl-C it finishes its current batch, hands over its partitions and exits with code 0.
    """
    if only is None:
        sys.exit(supervise())
    from worker.cli.half import serve  # noqa: PLC0415 - the supervisor does not need it, and it is large

    serve(only, supervised)
