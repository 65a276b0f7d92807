"""Follows the oplog: every change of a key and of a membership, in order."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from bson import Timestamp
from pymongo.errors import PyMongoError

from tests.verification.oracle.known_keys import digest
from tests.verification.oracle.recording import Change, ChangeKind, Recording

MARKS = "oracle_marks"
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
    """Follows one database from `begin` on, through any number of outages, and records its changes."""

    def __init__(self, db: Any, recording: Recording) -> None:
        self._db = db
        self._recording = recording
        self._memberships: dict[Any, tuple[str, str]] = {}
        self._rooms: dict[str, dict[str, Any]] = {}
        self._token: Any = None
        self._stream: Any = None
        self._marks: set[Any] = set()
        self.advanced = asyncio.Event()

    async def begin(self) -> None:
        """Open the change stream: it has every change after what is read from the database from now on."""
        self._stream = await self._db.watch(_PIPELINE, max_await_time_ms=500)
        self._token = self._stream.resume_token

    def add_room(self, room_id: str, document: Document) -> None:
        """Add a room that exists at the beginning."""
        self._rooms[room_id] = {name: document.get(name) for name in ("encKey", "keyRotation")}
        self._record_keys(room_id, self._rooms[room_id])

    def add_membership(self, membership_id: Any, room_id: str, account: str) -> None:
        """Add a membership that exists at the beginning."""
        self._memberships[membership_id] = (room_id, account)

    async def follow(self) -> None:
        """Record changes until cancelled."""
        try:
            while True:
                try:
                    change = await self._stream.try_next()
                    self._token = self._stream.resume_token or self._token
                except (PyMongoError, StopAsyncIteration):  # StopAsyncIteration: the server has closed the stream
                    await self._reopen()
                    continue
                if change is not None:
                    self._take(change)
                    self.advanced.set()
        finally:
            await self._stream.close()

    async def until_marked(self) -> None:
        """Wait until every change that was made before this call is recorded."""
        marks = set[Any]()
        while self._marks.isdisjoint(marks):
            with suppress(PyMongoError):
                marks.add((await self._db[MARKS].insert_one({})).inserted_id)
            self.advanced.clear()
            with suppress(TimeoutError):  # a stream that was reopened may have missed the mark
                await asyncio.wait_for(self.advanced.wait(), 1)

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
            self._record(change, ChangeKind.JOINED, *self._memberships[id_])
        elif change["operationType"] == "delete" and id_ in self._memberships:
            self._record(change, ChangeKind.LEFT, *self._memberships.pop(id_))

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
                self._record_keys(room_id, {path: value})
            for path in described["removedFields"]:
                _set(room, path, None)
        else:
            room = self._rooms[room_id] = dict(change["fullDocument"])
            self._record_keys(room_id, room)
        after = versions(room)
        for kind in (ChangeKind.CURRENT, ChangeKind.HIGH, ChangeKind.STAGED):
            if before[kind] != after[kind]:
                self._record(change, kind, room_id, version=after[kind])

    def _record(
        self, change: Document, kind: ChangeKind, room: str, account: str = "", version: int | None = None
    ) -> None:
        stamp: Timestamp = change["clusterTime"]
        at_ms = int(change["wallTime"].timestamp() * 1000)
        cluster_time = stamp.time << 32 | stamp.inc
        self._recording.changes.append(Change(kind, room, cluster_time, at_ms, account, version))

    def _record_keys(self, room_id: str, fields: Document) -> None:
        """Record every key that was written, with its version."""
        for key, version in _keys(fields):
            self._recording.known_keys.add(key)
            self._recording.stored_keys.add((room_id, version, digest(key)))


def versions(room: Document) -> dict[ChangeKind, int | None]:
    """Return the current, the highest and the staged version in the document of a room."""
    rotation = room.get("keyRotation") or {}
    current, staged = room.get("encKey") or {}, rotation.get("staged") or {}
    return {
        ChangeKind.CURRENT: current.get("ver"),
        ChangeKind.HIGH: rotation.get("high"),
        ChangeKind.STAGED: staged.get("ver"),
    }


def _set(document: dict[str, Any], path: str, value: Any) -> None:
    """Set one dotted field; elements of an array, which have no versions of interest, are left alone."""
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
