"""Child processes that answer a line of JSON with a line of JSON, and what the system says of them."""

import asyncio
import json
import os
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PATIENCE: Final = 120.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_USER, _SYSTEM = 11, 12


class ChildFailed(Exception):
    """A child process ended, or said nothing for too long."""


@dataclass(frozen=True, slots=True)
class Child:
    """One child process."""

    process: asyncio.subprocess.Process
    name: str

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self.process.pid

    async def ask(self, **asked: Any) -> dict[str, Any]:
        """Send a line and return the answer."""
        self.send(**asked)
        return await self.answer()

    def send(self, **asked: Any) -> None:
        """Send a line whose answer is fetched later."""
        if self.process.stdin is not None:
            self.process.stdin.write(json.dumps(asked).encode() + b"\n")

    async def answer(self) -> dict[str, Any]:
        """Wait for the answer to what was sent."""
        if self.process.stdout is None:
            raise ChildFailed(f"{self.name} has no standard output")
        try:
            async with asyncio.timeout(PATIENCE):
                line = await self.process.stdout.readline()
        except TimeoutError:
            raise ChildFailed(f"{self.name} did not answer within {PATIENCE:.0f} s") from None
        if not line:
            raise ChildFailed(f"{self.name} ended without an answer")
        answer: dict[str, Any] = json.loads(line)
        return answer


@asynccontextmanager
async def child(name: str, command: Sequence[str], environment: Mapping[str, str]) -> AsyncIterator[Child]:
    """Start a child process, and end it with the block."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=PIPE, stdout=PIPE, env={**os.environ, **environment}
    )
    try:
        yield Child(process, name)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def cpu_seconds(pid: int) -> float:
    """Return how long a process has worked."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS


def cpu_by_program() -> dict[str, float]:
    """Return how long each of our child processes has worked, by the program's name."""
    worked: dict[str, float] = {}
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        worked[name] = worked.get(name, 0.0) + cpu_seconds(int(pid))
    return worked


def resident_mib(pid: int) -> float:
    """Return how much memory a process has now."""
    return _status(pid, "VmRSS")


def peak_mib(pid: int) -> float:
    """Return the most memory that a process had since `forget_peak`."""
    return _status(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """Let a process's peak of memory begin with what it has now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))
