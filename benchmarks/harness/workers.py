"""The measured workers: `room-worker run` or the Go worker, as separate processes on their sites."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.harness.accounts import REQUESTER, account
from benchmarks.harness.child import Child, child
from benchmarks.harness.site import GO, PYMONGO, Bench
from benchmarks.harness.sizes import TEN
from worker.local.ports import HOST, free_port


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process. `metrics` is the URL of its metrics, or None if it has none."""

    process: Child
    metrics: str | None

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self.process.pid

    def pause(self) -> None:
        """Stop the process while a backlog is published."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let the process continue."""
        os.kill(self.pid, signal.SIGCONT)

    async def step_seconds(self) -> dict[str, float]:
        """Return the seconds that each step has taken so far, summed over all partitions."""
        if self.metrics is None:
            return {}
        async with aiohttp.ClientSession() as session, session.get(self.metrics) as response:
            families = text_string_to_metric_families(await response.text())
        samples = [sample for family in families for sample in family.samples]
        return {
            sample.labels["step"]: sample.value for sample in samples if sample.name == "room_worker_step_seconds_sum"
        }


@asynccontextmanager
async def working(
    bench: Bench, peer: str, warm: str, *arguments: str, log: Path | None = None
) -> AsyncIterator[Worker]:
    """Run a worker, warmed up by one removal in each of 32 rooms with the prefix `warm`.

    `arguments` are those of `room-worker`; by default it is the event worker alone, in one process.
    """
    site = bench.site(peer)
    address = f"{HOST}:{free_port()}"
    environment = {**site.environment, "HEALTH_ADDR": f"{HOST}:0", "METRICS_ADDR": address}
    if peer == PYMONGO:
        environment["MONGO_DRIVER"] = PYMONGO
    ours = [str(Path(sys.executable).parent / "room-worker"), *(arguments or ("run", "--only", "worker"))]
    program = [str(bench.go), "serve"] if peer == GO else ours
    if log is not None:
        program = ["sh", "-c", f'exec "$0" "$@" 2>>"{log}"', *program]
        environment["LOG_LEVEL"] = "info"
    rooms = await site.rooms_of_ten(warm, 32)
    async with child(peer, program, environment) as process:
        await bench.recorder.reset()
        bench.recorder.begin_until(len(rooms) * (TEN - 1), len(rooms))
        for room_id in rooms:
            await site.publish("member.remove", removal(room_id))
        await bench.recorder.until()
        yield Worker(process, None if peer == GO else f"http://{address}/metrics")


def removal(room_id: str, number: int = 1) -> dict[str, Any]:
    """Return the event that removes a member of a room."""
    return {"roomId": room_id, "requester": REQUESTER, "account": account(number)}
