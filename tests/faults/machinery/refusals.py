"""A database that refuses: a fault for a proxy, which answers transactions of chosen partitions with errors.

Fail points of MongoDB cannot do that: they refuse everybody with one code at a time.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import bson

from tests.harness.proxy import Chunk, Connection

OP_MSG = 2013
WRITES = {"insert", "update", "delete"}
KEY_TEXT = "E11000 duplicate key { keyRotation.staged.priv: BinData(0, 'yv66vsr+ur4=') }"
"""A text as servers write it: it quotes what nobody may read."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a client: its name and collection, its fields, and the documents that follow them."""

    name: str
    fields: Document
    documents: list[Document]

    @property
    def session(self) -> bytes:
        return bytes(self.fields.get("lsid", {}).get("id", b""))

    @property
    def is_in_transaction(self) -> bool:
        return self.fields.get("autocommit") is False


Answer = Callable[[Command], Document | None]
"""What a refusal answers to a command of its partition; None lets the command pass."""


@dataclass
class Refusal:
    """Refuses the commands of one partition for some seconds, from the first one that it would refuse."""

    answer: Answer
    seconds: float
    until: float = 0.0

    def __call__(self, command: Command) -> Document | None:
        now = asyncio.get_running_loop().time()
        answer = None if self.until and now > self.until else self.answer(command)
        if answer is not None:
            self.until = self.until or now + self.seconds
        return answer


@dataclass
class Refusals:
    """Refuses by partition, and to `everybody` else. Both may be filled at any time."""

    everybody: Refusal | None = None
    by_partition: dict[int, Refusal] = field(default_factory=dict)
    _partitions: dict[bytes, int] = field(default_factory=dict)
    _rest: dict[Connection, bytes] = field(default_factory=lambda: defaultdict(bytes))

    async def __call__(self, chunk: Chunk) -> bytes:
        if not chunk.from_client:
            return chunk.data
        data, passed = self._rest.pop(chunk.connection, b"") + chunk.data, b""
        while len(data) >= 4 and len(data) >= (length := int.from_bytes(data[:4], "little")):
            message, data = data[:length], data[length:]
            answer = self._answer(message)
            if answer is None:
                passed += message
            else:
                chunk.connection.client.write(_reply(message, answer))
        self._rest[chunk.connection] = data
        return passed

    def _answer(self, message: bytes) -> Document | None:
        command = _parse(message)
        if command is None:
            return None
        partition = self._partition(command)
        refusal = self.everybody if partition is None else self.by_partition.get(partition, self.everybody)
        return None if refusal is None else refusal(command)

    def _partition(self, command: Command) -> int | None:
        """Return the partition whose session sends the command: the session's first write names the cursor."""
        if command.fields.get(command.name) == "room_worker_cursors":
            for one in (*command.documents, {"q": command.fields.get("query", {})}):
                _, dot, number = str(one.get("q", {}).get("_id", "")).partition(".")
                if dot and number.isdigit():
                    self._partitions[command.session] = int(number)
        return self._partitions.get(command.session)


def _parse(message: bytes) -> Command | None:
    if int.from_bytes(message[12:16], "little") != OP_MSG or message[20] > 1:
        return None
    fields: Document = {}
    documents: list[Document] = []
    at = 20
    while at < len(message):
        kind, size = message[at], int.from_bytes(message[at + 1 : at + 5], "little")
        section = message[at + 1 : at + 1 + size]
        if kind == 0:
            fields = bson.decode(section)
        else:
            documents += bson.decode_all(section[section.index(b"\0", 4) + 1 :])
        at += 1 + size
    return Command(next(iter(fields)), fields, documents)


def _reply(request: bytes, answer: Document) -> bytes:
    body = bytes(5) + bson.encode(answer)
    numbers = (16 + len(body), 0, int.from_bytes(request[4:8], "little"), OP_MSG)
    return b"".join(number.to_bytes(4, "little") for number in numbers) + body


def _error(code: int, *labels: str) -> Document:
    named = {"code": code, "codeName": f"Code{code}", "errmsg": KEY_TEXT}
    return {**named, "errorLabels": list(labels)} if labels else named


def writes_fail(code: int) -> Answer:
    """Refuse every write of a transaction."""
    return _refuse(WRITES, {"ok": 0.0, **_error(code)})


def writes_of_rooms_fail(code: int) -> Answer:
    """Refuse every write to one collection."""
    return _refuse({"update"}, {"ok": 0.0, **_error(code)}, collection="rooms")


def one_write_of_a_bulk_fails(code: int) -> Answer:
    """Refuse a write of each bulk; the command itself succeeds."""
    item = {"index": 0, "code": code, "errmsg": KEY_TEXT}
    return _refuse(WRITES, {"ok": 1.0, "n": 0, "nModified": 0, "writeErrors": [item]})


def writes_fail_for_a_moment(code: int) -> Answer:
    """Refuse every write, and say that the transaction may be tried again."""
    return _refuse(WRITES, {"ok": 0.0, **_error(code, "TransientTransactionError")})


def commits_fail(code: int) -> Answer:
    """Refuse every commit."""
    return _refuse({"commitTransaction"}, {"ok": 0.0, **_error(code)})


def commits_are_unknown(code: int) -> Answer:
    """Refuse every commit, and say that nobody knows."""
    labels = ("UnknownTransactionCommitResult", "RetryableWriteError")
    return _refuse({"commitTransaction"}, {"ok": 0.0, **_error(code, *labels)})


def commits_are_not_durable(code: int) -> Answer:
    """Answer every commit that the write concern was not met."""
    return _refuse({"commitTransaction"}, {"ok": 1.0, "writeConcernError": _error(code)})


def reads_fail(code: int) -> Answer:
    """Refuse the reads of a batch."""
    answer = {"ok": 0.0, **_error(code)}
    return lambda command: answer if command.name == "aggregate" else None


SHAPES = (
    writes_fail,
    writes_of_rooms_fail,
    one_write_of_a_bulk_fails,
    writes_fail_for_a_moment,
    commits_fail,
    commits_are_unknown,
    commits_are_not_durable,
    reads_fail,
)
"""Every kind of answer by which a server refuses."""


def _refuse(names: set[str], answer: Document, collection: str | None = None) -> Answer:
    def refuse(command: Command) -> Document | None:
        is_meant = command.is_in_transaction and command.name in names
        is_there = collection is None or command.fields.get(command.name) == collection
        return answer if is_meant and is_there else None

    return refuse
