"""Workers in separate processes that start in 20 ms: they are forked from a server that has imported the worker.

A new Python process spends 0.6 s on imports. The server is that of `multiprocessing`; a test process starts it
with its first worker.
"""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final

from tests.faults.machinery import child

_CONTEXT: Final = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([child.__name__])


class WorkerProcess:
    """A worker that can be killed, stopped and waited for, with what it writes to its standard output."""

    stderr = None  # it goes to the log

    def __init__(self, process: ForkServerProcess, pid: int, stdout: asyncio.StreamReader) -> None:
        self.pid = pid
        self.stdout = stdout
        self._process = process

    @property
    def returncode(self) -> int | None:
        """Return the exit code, or the negative number of the signal that killed it; None: it runs."""
        return self._process.exitcode

    async def wait(self) -> int:
        """Wait until the process has ended; return its `returncode`."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        while (code := self.returncode) is None:
            loop.add_reader(self._process.sentinel, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(self._process.sentinel)
        return code

    def kill(self) -> None:
        """Kill the process, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)


@asynccontextmanager
async def forked_worker(environment: Mapping[str, str], log: Path | None) -> AsyncIterator[WorkerProcess]:
    """Run `tests/faults/machinery/child.py` in a process; it is killed if the block leaves it running."""
    reader, writer = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_run, args=(dict(environment), writer, log), daemon=True)
    with reader:
        await asyncio.to_thread(process.start)  # the first one waits for the server's imports
        writer.close()
        pid, stdout = process.pid, asyncio.StreamReader()
        assert pid is not None
        worker = WorkerProcess(process, pid, stdout)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stdout), os.fdopen(os.dup(reader.fileno()), "rb", 0)
        )
        try:
            yield worker
        finally:
            worker.kill()
            await worker.wait()
            transport.close()


def _run(environment: Mapping[str, str], stdout: Connection, log: Path | None) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(stdout.fileno(), 1)
    error = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(error, 2)
    child.run()
