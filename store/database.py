"""The connection to MongoDB, over either of two drivers.

Motor and PyMongo's `AsyncMongoClient` differ in what has to be awaited: `aggregate` is a coroutine in PyMongo and
not in Motor, and `start_session` the other way round. Apart from this file, only `store/transaction.py` knows
which driver is in use. (docs/pitfalls.md, item 25)
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from uuid import UUID

from bson.codec_options import CodecOptions, DatetimeConversion
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.monitoring import CommandListener
from pymongo.read_concern import ReadConcern

from store.clock import ServerClock
from store.errors import translated

Driver = Literal["motor", "pymongo"]
Document = dict[str, Any]

EVERYTHING: Final = 1_000_000
"""A batch size with which the first reply has as many documents as fit one message, not only 101."""

SIMPLE: Final = {"locale": "simple"}
"""What every statement says: compare bytes, whatever the collation of the collection. (docs/contract.md, section 5)"""

DURABLE: Final = WriteConcern("majority", j=True)
"""What every write waits for. (docs/design.md, rule b)"""

IN_TRANSACTIONS: Final[dict[str, Any]] = {
    "read_concern": ReadConcern("snapshot"),
    "write_concern": DURABLE,
    "read_preference": ReadPreference.PRIMARY,
}
"""How transactions read and write, whatever the URI says. Sessions do not inherit this from the database."""


@dataclass(frozen=True, slots=True)
class Database:
    """A database over either driver. Its collections and sessions are the driver's, and so are untyped."""

    client: Any = field(repr=False)
    db: Any = field(repr=False)
    driver: Driver
    clock: ServerClock = field(default_factory=ServerClock)
    collated: set[str] = field(default_factory=set)
    """The collections whose default collation is not the simple one; `ensure_indexes` finds them."""

    def __getitem__(self, collection: str) -> Any:
        return self.db[collection]

    async def start_session(self) -> Any:
        """Start a causally consistent session. The caller ends it with `end_session`."""
        with translated():
            session = self.client.start_session(causal_consistency=True)
            return await session if self.driver == "motor" else session

    async def aggregate(
        self, collection: str, pipeline: Sequence[Document], session: Any = None, *, max_ms: int | None = None
    ) -> list[Document]:
        """Run a pipeline, for `max_ms` milliseconds at most, and return all its results."""
        options: Document = {"session": session, "batchSize": EVERYTHING, "collation": SIMPLE}
        options |= {"maxTimeMS": max_ms} if max_ms else {}
        with translated():
            cursor = self.db[collection].aggregate(pipeline, **options)
            cursor = cursor if self.driver == "motor" else await cursor
            documents: list[Document] = await cursor.to_list(None)
        return documents

    async def find(
        self,
        collection: str,
        query: Document,
        fields: Document,
        session: Any = None,
        *,
        sort: str = "",
        skip: int = 0,
        limit: int = 0,
        hint: Document | None = None,
    ) -> list[Document]:
        """Return all documents that match, or, in order of the field `sort`, `limit` of them after `skip` others.

        With `hint`, the keys of an index, the query uses that index, and fails if it does not exist.
        """
        with translated():
            options: Document = {"session": session, "batch_size": EVERYTHING, "collation": SIMPLE}
            options |= {"skip": skip, "limit": limit} | ({"hint": list(hint.items())} if hint else {})
            cursor = self.db[collection].find(query, fields, **options)
            documents: list[Document] = await (cursor.sort(sort) if sort else cursor).to_list(None)
        return documents

    async def has_similar(self, collection: str, id_: str) -> bool:
        """Tell whether the collection's own collation takes the id of some document for this one."""
        with translated():
            return await self.db[collection].find_one({"_id": id_}, {"_id": 1}) is not None

    async def close(self) -> None:
        """Close every connection."""
        if self.driver == "motor":
            await asyncio.to_thread(self.client.close)  # blocks: it ends its sessions on the server
        else:
            await self.client.close()


def connect(
    uri: str,
    name: str,
    driver: Driver = "motor",
    *,
    username: str | None = None,
    password: str | None = None,
    listeners: Sequence[CommandListener] = (),
) -> Database:
    """Return the database called `name`. The first connection is made with the first call, not here."""
    clock = ServerClock()
    timeouts = {"serverSelectionTimeoutMS": 5_000, "connectTimeoutMS": 5_000, "socketTimeoutMS": 30_000}
    options: dict[str, Any] = {"appname": "room-worker", "event_listeners": [clock, *listeners], **timeouts}
    if username is not None:
        options |= {"username": username, "password": password}
    client: Any = AsyncIOMotorClient(uri, **options) if driver == "motor" else AsyncMongoClient(uri, **options)
    db = client.get_database(
        name,
        # Other programs may store dates and texts that Python cannot represent. They must not fail a whole query.
        codec_options=CodecOptions(
            tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
        ),
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern("majority"),
        write_concern=DURABLE,
    )
    return Database(client, db, driver, clock)


def session_id(session: Any) -> UUID:
    """Return the id of the session on the server, with which another replica can kill it."""
    return UUID(bytes=bytes(session.session_id["id"]))
