"""The recorder: a process that receives every room key and result, and says when the last one came.

    python -m benchmarks.recorder nats://…

One JSON line in is one answer out. While messages come it only counts them and keeps their bytes, so that it
waits for the broker and not the broker for it; who was reached is looked at afterwards.
"""

import json
import re
import resource
import select
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.harness import wire

_KEY: Final = re.compile(
    rb"MSG chat\.user\.(m\d+)\.event\.room\.key 1 \d+\r\n"
    rb'\{"roomId":"([^"]+)","version":(\d+),"privateKey":"([^"]+)"'
)
_RESULT: Final = re.compile(rb"HMSG chat\.user\.m\d+\.response\.([0-9a-f-]+) 1 ")
_BEGINNING: Final = b"MSG chat.user."
_READ: Final = 2**22


@dataclass
class Ear:
    """One subscription on a connection of its own."""

    connection: socket.socket
    subject: str
    heard: list[bytes] = field(default_factory=list)
    count: int = 0
    end: bytes = b""
    marks: list[tuple[int, int]] = field(default_factory=list)

    def hear(self) -> None:
        """Take what has come, and note when how many had come."""
        data = self.connection.recv(_READ)
        at = time.monotonic_ns()
        if not data:
            raise ConnectionError("the broker closed the recorder's connection: it was too slow")
        # A message may begin in one read and go on in the next.
        self.count += data.count(_BEGINNING) + (self.end + data[: len(_BEGINNING) - 1]).count(_BEGINNING)
        self.end = (self.end + data[-len(_BEGINNING) :])[-len(_BEGINNING) + 1 :]
        self.heard.append(data)
        self.marks.append((at, self.count))
        if b"PING\r\n" in data:
            self.connection.sendall(b"PONG\r\n")

    def open(self) -> None:
        """Subscribe; returns once the broker knows."""
        self.connection.sendall(f"SUB {self.subject} 1\r\n".encode())
        wire.confirm(self.connection)

    def close(self) -> None:
        """Subscribe to nothing; only while nothing is coming."""
        self.connection.sendall(b"UNSUB 1\r\n")
        wire.confirm(self.connection)

    def at(self, count: int) -> int:
        """Return when this many had come (nanoseconds of the machine's monotonic clock)."""
        return next((at for at, by_then in self.marks if by_then >= count), 0)

    def forget(self) -> None:
        """Begin to count anew."""
        self.heard, self.count, self.marks = [], 0, []


def listen(url: str, subject: str) -> Ear:
    """Subscribe; returns once the broker knows."""
    connection = wire.connect(url)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _READ)
    ear = Ear(connection, subject)
    ear.open()
    return ear


@dataclass
class Recorder:
    """Both ears, and what is waited for."""

    keys: Ear
    results: Ear
    waiting: dict[str, Any] | None = None

    def run(self) -> None:
        """Listen and answer until standard input ends."""
        ears = {self.keys.connection: self.keys, self.results.connection: self.results}
        while True:
            ready = select.select([sys.stdin, *ears], [], [])[0]
            for connection in ears.keys() & set(ready):
                ears[connection].hear()
            if sys.stdin in ready:
                line = sys.stdin.readline()
                if not line:
                    return
                self.answer(json.loads(line))
            self.look()

    def answer(self, asked: dict[str, Any]) -> None:
        """Do what was asked for."""
        match asked["do"]:
            case "forget":
                self.keys.forget()
                self.results.forget()
                say({"cpu": cpu_seconds()})
            case "open":
                self.keys.open()
                say({})
            case "close":
                self.keys.close()
                say({})
            case "until":
                self.waiting = asked
            case "reach":
                say(self.reach(asked["without"].encode()))

    def look(self) -> None:
        """Answer once everything that is waited for has come."""
        if (
            self.waiting
            and self.keys.count >= self.waiting["keys"]
            and self.results.count >= self.waiting["results"]
        ):
            last_key, last_result = self.keys.at(self.waiting["keys"]), self.results.at(self.waiting["results"])
            self.waiting = None
            say({"key_ns": last_key, "result_ns": last_result, "cpu": cpu_seconds()})

    def reach(self, without: bytes) -> dict[str, int]:
        """Return how many different (room, account) were reached, with how many different keys a version."""
        found = _KEY.findall(b"".join(self.keys.heard))
        return {
            "messages": len(found),
            "reached": len({(room, account) for account, room, _, _ in found}),
            "versions": len({(room, version) for _, room, version, _ in found}),
            "keys": len({(room, version, key) for _, room, version, key in found}),
            "wrongly": sum(account == without for account, _, _, _ in found),
            "results": len(set(_RESULT.findall(b"".join(self.results.heard)))),
        }


def cpu_seconds() -> float:
    """Return how long this process has worked."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def say(answer: dict[str, Any]) -> None:
    """Answer one line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.stdin.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    recorder = Recorder(
        listen(sys.argv[1], "chat.user.*.event.room.key"), listen(sys.argv[1], "chat.user.*.response.*")
    )
    say({"ready": True})
    recorder.run()
