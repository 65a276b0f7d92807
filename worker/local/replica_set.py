"""A MongoDB of one node as the replica set that transactions need; for development.

    python -m worker.local.replica_set mongo:27017

waits for the server under that address, makes it a replica set of itself where it is none yet, and returns
once it can be written to.
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

# For a client of a moment. A streaming monitor opens a second connection, and PyMongo 4.20 leaks its socket
# when the client is closed in the middle of that; a polling one has but the one.
BRIEF: dict[str, Any] = {
    "directConnection": True,
    "serverMonitoringMode": "poll",
    "serverSelectionTimeoutMS": 1000,
}


async def answers(host: str, port: int, *, member: str) -> bool:
    """Whether a primary that can be written to answers there.

    A `mongod` without a replica set is given one: itself alone, under the name `member` (`host:port`).
    """
    try:
        _, writer = await asyncio.open_connection(host, port)  # the driver waits half a second when refused
        writer.close()
        async with AsyncMongoClient[dict[str, Any]](host, port, **BRIEF) as client:
            hello = await client.admin.command("hello")
            if hello.get("isreplicaset"):  # a member in search of its set
                await _initiate(client, member)
            return bool(hello.get("isWritablePrimary"))
    except (OSError, ConnectionFailure):
        return False


async def _initiate(client: AsyncMongoClient[dict[str, Any]], member: str) -> None:
    members = [{"_id": 0, "host": member}]
    config = {"_id": NAME, "version": 1, "protocolVersion": 1, "members": members}
    try:
        await client.admin.command("replSetInitiate", config)
    except OperationFailure as error:
        if error.code != _ALREADY_INITIALIZED:
            raise
        # Either its data was served on another port before, or it is still about to load its configuration.
        with contextlib.suppress(OperationFailure):
            await client.admin.command("replSetReconfig", config, force=True)


async def make(address: str) -> None:
    """Wait until the server at `host:port` can be written to, as the replica set of itself that it may become."""
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(WAIT_SECONDS):
        while not await answers(host, int(port), member=address):  # noqa: ASYNC110 - a server tells nobody that it is up
            await asyncio.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    asyncio.run(make(sys.argv[1]))
