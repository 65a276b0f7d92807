"""A worker in a separate process, which a test can kill, stop or confuse.

The environment has the worker's own settings, those of `trap.py` and `clock.py`, and in `LIMITS` the worker's
limits, as JSON: `{"lease_ms": 1000}`. At SIGUSR1 it writes to its log what it is doing.
`tests/harness/forked_worker.py` starts it.
"""

import asyncio
import json
import os
import signal
import sys

from tests.faults.machinery import clock, trap
from worker import app
from worker.limits import Limits
from worker.settings import read_settings
from worker.telemetry import logs


def tell() -> None:
    """Write down what every task waits for."""
    for task in asyncio.all_tasks():
        task.print_stack()


async def main() -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, tell)
    limits = Limits(**json.loads(os.environ.get("LIMITS", "{}")))
    await app.run(read_settings(), stop, limits=limits)


def run() -> None:
    """Run the worker that the environment describes."""
    logs.configure("info", "json", sys.stderr)
    trap.lay(os.environ)
    clock.disturb(os.environ)
    asyncio.run(main())
