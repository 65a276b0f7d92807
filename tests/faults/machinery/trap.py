"""A trap: what happens to a worker's process at the n-th time that it reaches a place.

A place is a side of a step of the loop (`AT_STEP=deliver:before:2`), or of a command inside a transaction or of
a reading of members (`AT_COMMAND=commitTransaction:after:1`, `aggregate:before:2`). `DO` is `kill`, `stop`
(until a SIGCONT) or `exit`. The process says on its standard output that it is there.
"""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from worker import app
from worker.telemetry import metrics


class Exit(SystemExit):
    """The end of the process by its own doing: everything in it is unwound."""


@dataclass
class Trap:
    """Springs when its place is reached for the `left`-th time."""

    place: str
    left: int
    do: str

    def reached(self, place: str) -> None:
        if place != self.place:
            return
        self.left -= 1
        if self.left == 0:
            os.write(1, f"{place}\n".encode())
            self._spring()

    def _spring(self) -> None:
        if self.do == "exit":
            raise Exit(3)
        os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[self.do])


class Commands(CommandListener):
    """Tells a trap of commands: before they are sent, after they were answered."""

    def __init__(self, reached: Callable[[str], None]) -> None:
        self._reached = reached
        self._open: set[int] = set()

    def started(self, event: CommandStartedEvent) -> None:
        if "autocommit" in event.command or event.command_name == "aggregate":
            self._open.add(event.request_id)
            self._reached(f"{event.command_name}:before")

    def succeeded(self, event: CommandSucceededEvent) -> None:
        if event.request_id in self._open:
            self._open.discard(event.request_id)
            self._reached(f"{event.command_name}:after")

    def failed(self, event: CommandFailedEvent) -> None:
        self._open.discard(event.request_id)


def lay(environment: Mapping[str, str]) -> None:
    """Lay the trap that the environment asks for, if any."""
    do = environment.get("DO", "kill")
    if "AT_STEP" in environment:
        at_steps(_trap(environment["AT_STEP"], do).reached)
    if "AT_COMMAND" in environment:
        listeners = [Commands(_trap(environment["AT_COMMAND"], do).reached)]
        app.connect = partial(app.connect, listeners=listeners)  # type: ignore[attr-defined]


def at_steps(reached: Callable[[str], None]) -> None:
    """Let every step of the loop tell when it is entered and when it is left without an error."""
    measured = metrics.step

    @contextmanager
    def step(name: str) -> Iterator[None]:
        reached(f"{name}:before")
        with measured(name):
            yield
        reached(f"{name}:after")

    metrics.step = step


def _trap(text: str, do: str) -> Trap:
    name, side, count = text.split(":")
    return Trap(f"{name}:{side}", int(count), do)
