"""Makes a single MongoDB server a replica set, which transactions need; for development.

    python -m worker.local.mongo_replica_set mongo:27017

waits for the server at that address, initializes a replica set with it as the only member if necessary, and
returns once the server can be written to.
"""

import asyncio
import contextlib
import sys
from typing import Any, Final

from pymongo import AsyncMongoClient
from pymongo.errors import ConnectionFailure, OperationFailure

NAME: Final = "rs0"
WAIT_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.2
_ALREADY_INITIALIZED: Final = 23

# A streaming monitor opens a second connection, whose socket PyMongo 4.20 leaks if the client is closed just then.
BRIEF: dict[str, Any] = {"directConnection": True, "serverMonitoringMode": "poll", "serverSelectionTimeoutMS": 1000}
"""Options for a client that is closed soon."""


async def answers(host: str, port: int, *, member: str) -> bool:
    """Tell whether a primary that can be written to answers there.

    If `mongod` waits for a replica set, initialize one with `member` (`host:port`) as its only member.
    """
    try:
        # First, because the driver waits half a second when a connection is refused.
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
        async with AsyncMongoClient[dict[str, Any]](host, port, **BRIEF) as client:
            hello = await client.admin.command("hello")
            if hello.get("isreplicaset"):  # started with --replSet, and not in a replica set yet
                await _initiate(client, member)
            return bool(hello.get("isWritablePrimary"))
    except (OSError, ConnectionFailure):
        return False


async def _initiate(client: AsyncMongoClient[dict[str, Any]], member: str) -> None:
    config = {"_id": NAME, "version": 1, "protocolVersion": 1, "members": [{"_id": 0, "host": member}]}
    try:
        await client.admin.command("replSetInitiate", config)
    except OperationFailure as error:
        if error.code != _ALREADY_INITIALIZED:
            raise
        # Either the data comes from a server with another port, or the server is still loading its configuration.
        with contextlib.suppress(OperationFailure):
            await client.admin.command("replSetReconfig", config, force=True)


async def make(address: str) -> None:
    """Make the server at `host:port` a replica set if necessary, and wait until it can be written to."""
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(WAIT_SECONDS):
        while not await answers(host, int(port), member=address):  # noqa: ASYNC110 - a server does not notify anybody when it is up
            await asyncio.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    asyncio.run(make(sys.argv[1]))
