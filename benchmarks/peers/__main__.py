"""A peer's process: `python -m benchmarks.peers ours|idiomatic|limit` measures one step for each line it reads."""

import asyncio
import gc
import json
import sys
import time
from importlib import import_module

import uvloop

from benchmarks.harness.recorder import cpu_seconds, say
from worker.telemetry import logs


async def main(name: str) -> None:
    """Answer until standard input ends."""
    logs.configure("warning", "console")
    async with import_module(f"benchmarks.peers.{name}").peer() as steps:
        say({"ready": True})
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = json.loads(line)
            step = await steps[asked["do"]](asked)
            gc.collect()  # what was made beforehand is not the step's
            cpu, since = cpu_seconds(), time.perf_counter()
            count = await step()
            say({"seconds": time.perf_counter() - since, "cpu": cpu_seconds() - cpu, "count": count})


if __name__ == "__main__":
    # Ours runs on the loop that the command runs on, the others on the one that they are written for.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if sys.argv[1] == "ours" else None) as runner:
        runner.run(main(sys.argv[1]))
