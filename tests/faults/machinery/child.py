"""A worker in a process of its own, to be killed, stopped or confused.

`python -m tests.faults.child`, with the worker's own settings in the environment, those of `trap.py` and
`clock.py`, and in `CONSTANTS` other values for constants, as JSON: `{"worker.replica.LEASE_MS": 1000}`.
At SIGUSR1 it writes to its log what it is doing.
"""

import asyncio
import importlib
import json
import os
import signal
import sys

from tests.faults.machinery import clock, trap
from worker import app
from worker.settings import read_settings
from worker.telemetry import logs


def change(constants: dict[str, int]) -> None:
    for path, value in constants.items():
        module, _, name = path.rpartition(".")
        setattr(importlib.import_module(module), name, value)


def tell() -> None:
    """Write down what every task waits for."""
    for task in asyncio.all_tasks():
        task.print_stack()


async def main() -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, tell)
    await app.run(read_settings(), stop)


if __name__ == "__main__":
    logs.configure("info", "json", sys.stderr)
    change(json.loads(os.environ.get("CONSTANTS", "{}")))
    trap.lay(os.environ)
    clock.disturb(os.environ)
    asyncio.run(main())
