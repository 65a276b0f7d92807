"""A worker in a process of its own, to be killed, stopped or confused.

`python -m tests.faults.child`, with the worker's own settings in the environment, and those of `trap.py` and
`clock.py`.
"""

import asyncio
import os
import signal
import sys

from tests.faults import clock, trap
from worker import app, logs
from worker.settings import read_settings


async def main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await app.run(read_settings(), stop)


if __name__ == "__main__":
    logs.configure("info", "json", sys.stderr)
    trap.lay(os.environ)
    clock.disturb(os.environ)
    asyncio.run(main())
