"""A worker in a process of its own, to be killed; `DIE_IN` names a function in which it kills itself.

`python -m tests.faults.child`, with the worker's own settings in the environment.
"""

import asyncio
import importlib
import os
import signal
import sys
from typing import Any

from worker import app, logs
from worker.settings import read_settings


def die_in(name: str) -> None:
    """Replace `module.function` by one that ends this process at once."""
    module_name, _, function = name.rpartition(".")

    async def die(*_args: Any, **_kwargs: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.Event().wait()

    setattr(importlib.import_module(module_name), function, die)


async def main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await app.run(read_settings(), stop)


if __name__ == "__main__":
    logs.configure("info", "json", sys.stderr)
    if "DIE_IN" in os.environ:
        die_in(os.environ["DIE_IN"])
    asyncio.run(main())
