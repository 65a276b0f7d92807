"""The database as its oplog tells it: every change of a key and of a membership, in order."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from bson import Timestamp
from pymongo.errors import PyMongoError

from tests.verification.oracle.recording import Change, Recording, What
from tests.verification.oracle.sealed import digest

MARKS = "judge_marks"
_PAIRS = [("priv", "ver"), ("prevPriv", "prevVer")]
_PIPELINE: list[dict[str, Any]] = [
    {"$match": {"ns.coll": {"$in": ["rooms", "subscriptions", MARKS]}}},
    {
        "$project": {
            "operationType": 1,
            "wallTime": 1,
            "clusterTime": 1,
            "ns": 1,
            "documentKey": 1,
            "updateDescription": 1,
            "fullDocument.roomId": 1,
            "fullDocument.u.account": 1,
            "fullDocument.encKey": 1,
            "fullDocument.keyRotation": 1,
        }
    },
]
Document = Mapping[str, Any]


class Oplog:
    """Follows a database from `begin` on, across every loss of it, and writes down what concerns keys."""

    def __init__(self, db: Any, recording: Recording) -> None:
        self._db = db
        self._recording = recording
        self._memberships: dict[Any, tuple[str, str]] = {}
        self._rooms: dict[str, dict[str, Any]] = {}
        self._token: Any = None
        self._stream: Any = None
        self._marks: set[Any] = set()
        self.moved = asyncio.Event()

    async def begin(self) -> None:
        """Open the stream; what is read from the database after this misses no change."""
        self._stream = await self._db.watch(_PIPELINE, max_await_time_ms=500)
        self._token = self._stream.resume_token

    def found(self, room_id: str, document: Document) -> None:
        """Note a room that is there from the beginning."""
        self._rooms[room_id] = {name: document.get(name) for name in ("encKey", "keyRotation")}
        self._note_keys(room_id, self._rooms[room_id])

    def belongs(self, membership_id: Any, room_id: str, account: str) -> None:
        """Note a membership that is there from the beginning."""
        self._memberships[membership_id] = (room_id, account)

    async def follow(self) -> None:
        """Write down what changes, for ever."""
        try:
            while True:
                try:
                    change = await self._stream.try_next()
                    self._token = self._stream.resume_token or self._token
                except (PyMongoError, StopAsyncIteration):  # the latter of a stream that was closed for us
                    await self._reopen()
                    continue
                if change is not None:
                    self._take(change)
                    self.moved.set()
        finally:
            await self._stream.close()

    async def until_marked(self) -> None:
        """Wait until every change that was made before this call has been written down."""
        marks = set[Any]()
        while self._marks.isdisjoint(marks):
            with suppress(PyMongoError):
                marks.add((await self._db[MARKS].insert_one({})).inserted_id)
            self.moved.clear()
            with suppress(TimeoutError):  # a stream that was opened anew may have missed a mark of ours
                await asyncio.wait_for(self.moved.wait(), 1)

    async def _reopen(self) -> None:
        with suppress(PyMongoError):
            await self._stream.close()
        while True:
            with suppress(PyMongoError):
                self._stream = await self._db.watch(_PIPELINE, resume_after=self._token, max_await_time_ms=500)
                return
            await asyncio.sleep(0.05)

    def _take(self, change: Document) -> None:
        collection, id_ = change["ns"].get("coll"), change.get("documentKey", {}).get("_id")
        if collection == MARKS:
            self._marks.add(id_)
        elif collection == "subscriptions":
            self._membership(change, id_)
        elif collection == "rooms":
            self._room(change, id_)

    def _membership(self, change: Document, id_: Any) -> None:
        if change["operationType"] == "insert":
            document = change["fullDocument"]
            self._memberships[id_] = document["roomId"], str(document["u"]["account"])
            self._write(change, What.JOINED, *self._memberships[id_])
        elif change["operationType"] == "delete" and id_ in self._memberships:
            self._write(change, What.LEFT, *self._memberships.pop(id_))

    def _room(self, change: Document, room_id: str) -> None:
        before = versions(self._rooms.get(room_id, {}))
        if change["operationType"] == "delete":
            self._rooms.pop(room_id, None)
            return
        if change["operationType"] == "update":
            described = change["updateDescription"]
            room = self._rooms.setdefault(room_id, {})
            for path, value in described["updatedFields"].items():
                _set(room, path, value)
                self._note_keys(room_id, {path: value})
            for path in described["removedFields"]:
                _set(room, path, None)
        else:
            room = self._rooms[room_id] = dict(change["fullDocument"])
            self._note_keys(room_id, room)
        after = versions(room)
        for what in (What.IN_USE, What.HIGH, What.STAGED):
            if before[what] != after[what]:
                self._write(change, what, room_id, version=after[what])

    def _write(
        self, change: Document, what: What, room: str, account: str = "", version: int | None = None
    ) -> None:
        stamp: Timestamp = change["clusterTime"]
        at_ms = int(change["wallTime"].timestamp() * 1000)
        moment = stamp.time << 32 | stamp.inc
        self._recording.changes.append(Change(what, room, moment, at_ms, account, version))

    def _note_keys(self, room_id: str, fields: Document) -> None:
        """Note every key in what was written: its digest with its version, its bytes among the secrets."""
        for key, version in _keys(fields):
            self._recording.secrets.add(key)
            self._recording.stored.add((room_id, version, digest(key)))


def versions(room: Document) -> dict[What, int | None]:
    """Return the versions that a room's document speaks of."""
    rotation = room.get("keyRotation") or {}
    in_use, staged = room.get("encKey") or {}, rotation.get("staged") or {}
    return {What.IN_USE: in_use.get("ver"), What.HIGH: rotation.get("high"), What.STAGED: staged.get("ver")}


def _set(document: dict[str, Any], path: str, value: Any) -> None:
    """Write one dotted field; places in an array, which no version stands in, are left alone."""
    *parents, last = path.split(".")
    for name in parents:
        inner = document.get(name)
        if isinstance(inner, list):
            return
        if inner is None:
            inner = document[name] = {}
        document = inner
    document[last] = value


def _keys(value: Any) -> Iterator[tuple[bytes, int]]:
    if isinstance(value, Mapping):
        for key, version in _PAIRS:
            if isinstance(value.get(key), bytes) and value.get(version) is not None:
                yield value[key], value[version]
        for inner in value.values():
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)
