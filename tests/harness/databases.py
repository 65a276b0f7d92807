"""The database that the tests of one process share: each test finds collections and indexes, but no documents."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bson.binary import UUID_SUBTYPE, Binary
from pymongo import MongoClient

from store.leases.lease import CURSORS

NAME = "shared"
TIMEOUT_MS = 10_000


@dataclass(frozen=True, slots=True)
class SharedDatabase:
    """One database of the server at `uri`, over a client that only empties it.

    To make and to drop a database takes MongoDB 0.2 s; to empty one takes 5 ms.
    """

    name: str
    client: MongoClient[dict[str, Any]]

    def empty(self) -> None:
        """Remove every document, also those that the transaction of a killed worker holds."""
        db = self.client[self.name]
        sessions = [cursor["session"] for cursor in db[CURSORS].find({"session": {"$ne": None}})]
        if sessions:
            ids = [{"id": Binary(bytes(session), UUID_SUBTYPE)} for session in sessions]
            self.client.admin.command("killSessions", ids)
        for name in db.list_collection_names():
            db.command("delete", name, deletes=[{"q": {}, "limit": 0}], maxTimeMS=TIMEOUT_MS)


@contextmanager
def shared_database(uri: str) -> Iterator[SharedDatabase]:
    """Connect to the database that this process's tests share."""
    with MongoClient[dict[str, Any]](uri, serverMonitoringMode="poll") as client:
        yield SharedDatabase(NAME, client)
