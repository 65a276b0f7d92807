"""The command `room-worker` as a separate process, as people run it."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from tests.harness.forked_worker import WorkerProcess, forked_worker
from tests.harness.site import Rig

ROOM_WORKER = str(Path(sys.executable).with_name("room-worker"))
PATIENCE = 30.0


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return the document that it printed."""
        return orjson.loads(self.out)


def variables(rig: Rig, **changes: str) -> dict[str, str]:
    """Return the environment in which a command finds the rig's site."""
    settings = rig.settings
    return {
        "NATS_URL": settings.nats_url[0],
        "MONGO_URI": settings.mongo_uri.get_secret_value(),
        "MONGO_DB": settings.mongo_db,
        "SITE_ID": settings.site_id,
        "HEALTH_ADDR": "127.0.0.1:0",
        "METRICS_ADDR": "127.0.0.1:0",
        **changes,
    }


async def start(*args: str, env: Mapping[str, str], program: str = ROOM_WORKER) -> Process:
    """Start the command in a clean environment."""
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return await asyncio.create_subprocess_exec(program, *args, stdout=PIPE, stderr=PIPE, env={**clean, **env})


async def run(*args: str, env: Mapping[str, str], program: str = ROOM_WORKER) -> Ended:
    """Run the command to its end."""
    async with running(*args, env=env, program=program) as process:
        return await ended(process)


@asynccontextmanager
async def running(*args: str, env: Mapping[str, str], program: str = ROOM_WORKER) -> AsyncIterator[Process]:
    """Run the command beside the test; it is killed if the test leaves it running."""
    process = await start(*args, env=env, program=program)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ended(process: Process, told: signal.Signals | None = None) -> Ended:
    """Wait for the end, having sent a signal where one is given."""
    if told is not None:
        process.send_signal(told)
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def says(process: Process | WorkerProcess, text: str, *, on_stderr: bool = False) -> str:
    """Read lines until one has the text, and return it."""
    stream = process.stderr if on_stderr else process.stdout
    assert stream is not None
    seen = []
    async with asyncio.timeout(PATIENCE):
        while line := (await stream.readline()).decode():
            seen.append(line)
            if text in line:
                return line
    raise AssertionError(f"it never said {text!r}; it said {''.join(seen)!r}")


def left_in(folder: Path) -> list[str]:
    """Return the names of what a command left in a folder."""
    return [path.name for path in folder.iterdir()]


@asynccontextmanager
async def child(made: Rig, log: Path | None = None, /, **changes: str) -> AsyncIterator[WorkerProcess]:
    """Run a worker with the site's limits in a separate process, which appends to the file `log`.

    `changes` are settings, traps (tests/faults/machinery/trap.py) or, in `LIMITS`, changes to the limits as JSON.
    """
    limits = {**asdict(made.limits), **orjson.loads(changes.pop("LIMITS", "{}"))}
    environment = {**os.environ, **variables(made, **changes, LIMITS=orjson.dumps(limits).decode())}
    async with forked_worker(environment, log) as worker:
        yield worker


async def ends_well(worker: WorkerProcess) -> None:
    """Tell a worker to stop and require that it does so as it should."""
    worker.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(worker.wait(), PATIENCE) == 0
