"""A producer: creates a room with two members, removes one of them, and waits for both results.

NATS_URL=nats://localhost:4222 SITE_ID=site-local python examples/producer.py alice bob
"""

import asyncio
import os
import sys
import time
import uuid
from typing import Any

import nats
import orjson
from nats.aio.client import Client

SITE = os.environ.get("SITE_ID", "site-local")


async def ask(nc: Client, operation: str, requester: str, event: dict[str, Any]) -> dict[str, Any]:
    """Publish an event on the site's stream and return the worker's result."""
    request_id = str(uuid.uuid4())
    results = await nc.subscribe(f"chat.user.{requester}.response.{request_id}")
    await nc.flush()  # subscribe before publishing, so that no result is missed

    event["timestamp"] = time.time_ns() // 1_000_000
    await nc.jetstream().publish(
        f"chat.room.canonical.{SITE}.{operation}", orjson.dumps(event), headers={"X-Request-ID": request_id}
    )

    message = await results.next_msg(timeout=10)
    await results.unsubscribe()
    result: dict[str, Any] = orjson.loads(message.data)
    return result


async def main(owner: str, member: str) -> None:
    """Create a room with both accounts, then remove the second."""
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://localhost:4222"), inbox_prefix="_INBOX.producer")
    try:
        room_id = uuid.uuid4().hex
        room = {"roomId": room_id, "name": "general", "users": [member], "orgs": [], "channels": []}
        created = await ask(nc, "create", owner, {**room, "requesterAccount": owner})
        print(created["operation"], created["status"], created.get("reason", ""))

        removal = {"roomId": room_id, "requester": owner, "account": member}
        removed = await ask(nc, "member.remove", owner, removal)
        print(removed["operation"], removed["status"], removed.get("reason", ""))
    finally:
        await nc.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
