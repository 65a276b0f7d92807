"""Child processes that answer each line of JSON with a line of JSON, and their CPU time and memory."""

import asyncio
import json
import os
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ANSWER_SECONDS: Final = 120.0
"""How long a child may take for one answer."""

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_USER, _SYSTEM = 11, 12  # fields of /proc/PID/stat, after the program's name


class ChildFailed(Exception):
    """A child process ended, or did not answer in time."""


@dataclass(frozen=True, slots=True)
class Child:
    """One child process."""

    process: asyncio.subprocess.Process
    name: str

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self.process.pid

    async def ask(self, **request: Any) -> dict[str, Any]:
        """Send a line and return the answer."""
        self.send(**request)
        return await self.answer()

    def send(self, **request: Any) -> None:
        """Send a line; `answer` fetches the answer later."""
        if self.process.stdin is not None:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")

    async def answer(self) -> dict[str, Any]:
        """Wait for the next answer."""
        if self.process.stdout is None:
            raise ChildFailed(f"{self.name} has no standard output")
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                line = await self.process.stdout.readline()
        except TimeoutError:
            raise ChildFailed(f"{self.name} did not answer within {ANSWER_SECONDS:.0f} s") from None
        if not line:
            raise ChildFailed(f"{self.name} ended without an answer")
        answer: dict[str, Any] = json.loads(line)
        return answer


@asynccontextmanager
async def child(name: str, command: Sequence[str], environment: Mapping[str, str]) -> AsyncIterator[Child]:
    """Start a child process, and terminate it at the end of the block."""
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env={**os.environ, **environment})
    try:
        yield Child(process, name)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS_PER_SECOND


def cpu_by_program() -> dict[str, float]:
    """Return the CPU time of the child processes of this process, in seconds, summed by program name."""
    seconds: dict[str, float] = {}
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        seconds[name] = seconds.get(name, 0.0) + cpu_seconds(int(pid))
    return seconds


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    return _status(pid, "VmRSS")


def peak_mib(pid: int) -> float:
    """Return the largest resident memory of a process since `reset_peak`."""
    return _status(pid, "VmHWM")


def reset_peak(pid: int) -> None:
    """Set the memory peak of a process to its current resident memory."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))
