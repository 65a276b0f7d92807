"""The recorder: a process that receives every room key and every result, and reports when the last one arrived.

    python -m benchmarks.harness.recorder nats://…

It answers each line of JSON with a line of JSON. While messages arrive, it only counts them and stores their
bytes, so that the broker never waits for it. It decodes the messages afterwards.
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
class Listener:
    """One subscription on a separate connection."""

    connection: socket.socket
    subject: str
    received: list[bytes] = field(default_factory=list)
    count: int = 0
    end: bytes = b""
    marks: list[tuple[int, int]] = field(default_factory=list)

    def receive(self) -> None:
        """Read from the socket, and note the time and the number of messages so far."""
        data = self.connection.recv(_READ)
        at = time.monotonic_ns()
        if not data:
            raise ConnectionError("the broker closed the recorder's connection: it was too slow")
        # The beginning of a message may be split between two reads.
        self.count += data.count(_BEGINNING) + (self.end + data[: len(_BEGINNING) - 1]).count(_BEGINNING)
        self.end = (self.end + data[-len(_BEGINNING) :])[-len(_BEGINNING) + 1 :]
        self.received.append(data)
        self.marks.append((at, self.count))
        if b"PING\r\n" in data:
            self.connection.sendall(b"PONG\r\n")

    def open(self) -> None:
        """Subscribe; return once the broker has taken the subscription."""
        self.connection.sendall(f"SUB {self.subject} 1\r\n".encode())
        wire.confirm(self.connection)

    def close(self) -> None:
        """Unsubscribe. Call it only while no messages arrive."""
        self.connection.sendall(b"UNSUB 1\r\n")
        wire.confirm(self.connection)

    def at(self, count: int) -> int:
        """Return when this many messages had arrived (nanoseconds of the monotonic clock)."""
        return next((at for at, by_then in self.marks if by_then >= count), 0)

    def reset(self) -> None:
        """Drop all messages and start counting at zero."""
        self.received, self.count, self.marks = [], 0, []


def listen(url: str, subject: str) -> Listener:
    """Subscribe; return once the broker has taken the subscription."""
    connection = wire.connect(url)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _READ)
    listener = Listener(connection, subject)
    listener.open()
    return listener


@dataclass
class Recorder:
    """The listeners for keys and results, and the request that waits for messages, if there is one."""

    keys: Listener
    results: Listener
    waiting: dict[str, Any] | None = None

    def run(self) -> None:
        """Receive messages and answer requests until standard input ends."""
        listeners = {self.keys.connection: self.keys, self.results.connection: self.results}
        while True:
            ready = select.select([sys.stdin, *listeners], [], [])[0]
            for connection in listeners.keys() & set(ready):
                listeners[connection].receive()
            if sys.stdin in ready:
                line = sys.stdin.readline()
                if not line:
                    return
                self.answer(json.loads(line))
            self.answer_waiting()

    def answer(self, request: dict[str, Any]) -> None:
        """Handle one request."""
        match request["do"]:
            case "reset":
                self.keys.reset()
                self.results.reset()
                say({"cpu": cpu_seconds()})
            case "open":
                self.keys.open()
                say({})
            case "close":
                self.keys.close()
                say({})
            case "until":
                self.waiting = request
            case "reach":
                say(self.reach(request["without"].encode()))

    def answer_waiting(self) -> None:
        """Answer the waiting request if everything that it names has arrived."""
        if self.waiting and self.keys.count >= self.waiting["keys"] and self.results.count >= self.waiting["results"]:
            last_key, last_result = self.keys.at(self.waiting["keys"]), self.results.at(self.waiting["results"])
            self.waiting = None
            say({"key_ns": last_key, "result_ns": last_result, "cpu": cpu_seconds()})

    def reach(self, without: bytes) -> dict[str, int]:
        """Return how many messages, (room, account), versions, keys and results came, and keys for `without`."""
        found = _KEY.findall(b"".join(self.keys.received))
        return {
            "messages": len(found),
            "reached": len({(room, account) for account, room, _, _ in found}),
            "versions": len({(room, version) for _, room, version, _ in found}),
            "keys": len({(room, version, key) for _, room, version, key in found}),
            "excluded": sum(account == without for account, _, _, _ in found),
            "results": len(set(_RESULT.findall(b"".join(self.results.received)))),
        }


def cpu_seconds() -> float:
    """Return the CPU time of this process, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def say(answer: dict[str, Any]) -> None:
    """Write one answer."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.stdin.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    recorder = Recorder(
        listen(sys.argv[1], "chat.user.*.event.room.key"), listen(sys.argv[1], "chat.user.*.response.*")
    )
    say({"ready": True})
    recorder.run()
