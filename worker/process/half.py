"""One half of the service as the supervisor sees it: a process that is started again when it ends."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from worker.process.protocol import Hello, read_answer

_WAITING: Final = 8
"""Questions that may wait for an answer; while a half is stuck, no more are sent."""

ANSWER_SECONDS: Final = 2.0
"""How long the supervisor waits for an answer."""


@dataclass(eq=False, slots=True)
class Half:
    """The process of a role. `hello` is set when it has read its settings, `ended` when it has ended.

    `ended` is the exit code, or the negative number of the signal that ended it.
    """

    role: str
    pid: int
    hello: asyncio.Future[Hello]
    ended: asyncio.Future[int]
    _writer: asyncio.StreamWriter
    _reading: asyncio.Task[None] | None = None
    _asked: deque[asyncio.Future[bytes]] = field(default_factory=deque)

    @classmethod
    async def start(cls, role: str, restarts: int) -> "Half":
        """Start the process of a role, which was started so many times before."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours)
        command = [sys.executable, "-P", "-m", "worker.cli", "run", "--only", role, "--supervised", str(restarts)]
        with theirs:
            # In a separate process group: Ctrl-C is for the supervisor, which then stops its halves in order.
            channel = (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)
            pid = os.posix_spawn(  # noqa: ASYNC221 - takes a millisecond, and nothing else may run in between
                sys.executable, command, os.environ, file_actions=[channel], setpgroup=0
            )
        loop = asyncio.get_running_loop()
        half = cls(role, pid, loop.create_future(), loop.create_future(), writer)
        half._reading = loop.create_task(half._read(reader))
        return half

    @property
    def is_up(self) -> bool:
        """Tell whether the process has said hello and still runs."""
        return self.hello.done() and not self.ended.done()

    async def ask(self, question: bytes) -> bytes | None:
        """Return the answer to a question, or None if it does not come in time."""
        if len(self._asked) >= _WAITING or self.ended.done():
            return None
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self._writer.write(question)
        with suppress(TimeoutError, asyncio.CancelledError):
            return await asyncio.wait_for(answer, ANSWER_SECONDS)
        return None

    def send(self, number: signal.Signals) -> None:
        """Send the process a signal, if it still runs."""
        if not self.ended.done():
            os.kill(self.pid, number)

    def note_end(self, status: int) -> None:
        """Note that the process has ended, with this status of `waitpid`."""
        self.ended.set_result(os.waitstatus_to_exitcode(status))
        self._writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            self.hello.set_result(json.loads(await read_answer(reader)))
            while True:
                answer = await read_answer(reader)
                waiting = self._asked.popleft()
                if not waiting.done():  # done: its time was up
                    waiting.set_result(answer)
        while self._asked:
            self._asked.popleft().cancel()
