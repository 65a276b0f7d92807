"""The process of a peer: `python -m benchmarks.peers ours|idiomatic|limit` measures one step per input line."""

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
    """Answer requests until standard input ends."""
    logs.configure("warning", "console")
    async with import_module(f"benchmarks.peers.{name}").peer() as steps:
        say({"ready": True})
        while line := await asyncio.to_thread(sys.stdin.readline):
            request = json.loads(line)
            step = await steps[request["do"]](request)
            gc.collect()  # do not measure the garbage of the preparation
            cpu, started = cpu_seconds(), time.perf_counter()
            count = await step()
            say({"seconds": time.perf_counter() - started, "cpu": cpu_seconds() - cpu, "count": count})


if __name__ == "__main__":
    # Ours runs on the event loop of `room-worker run`, the others on the default loop of asyncio.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if sys.argv[1] == "ours" else None) as runner:
        runner.run(main(sys.argv[1]))
