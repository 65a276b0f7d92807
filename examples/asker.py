"""Sends the key service plain NATS requests, as a program in any language can.

    NATS_URL=nats://localhost:4222 SITE_ID=site-local python examples/asker.py alice

It lists the rooms of an account, each with its key version and its number of people.
"""

import asyncio
import os
import sys
from typing import Any

import nats
import orjson
from nats.aio.client import Client

SITE = os.environ.get("SITE_ID", "site-local")


async def request(nc: Client, account: str, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
    """Send a request and return the reply. A reply with a code is an error."""
    subject = f"chat.user.{account}.request.rooms.{SITE}.{endpoint}"
    reply = await nc.request(subject, orjson.dumps(body), timeout=5)
    answer: dict[str, Any] = orjson.loads(reply.data)
    if isinstance(answer.get("code"), str):  # for a room with the id "code" it is an object
        raise SystemExit(f"{endpoint}: {answer['code']} / {answer.get('reason')}")
    return answer


async def current_versions(nc: Client, account: str) -> dict[str, int]:
    """Fetch page by page every key that is newer than those in `have`: here all of them."""
    versions: dict[str, int] = {}
    body: dict[str, Any] = {"have": {}}
    while True:
        page = await request(nc, account, "keys.sync", body)
        versions |= {result["roomId"]: result["version"] for result in page["results"]}
        if "cursor" not in page:
            return versions
        body["cursor"] = page["cursor"]


async def main(account: str) -> None:
    """Print the account's rooms."""
    url = os.environ.get("NATS_URL", "nats://localhost:4222")
    nc = await nats.connect(url, inbox_prefix=f"_INBOX.{account}")
    try:
        versions = await current_versions(nc, account)
        print(f"{account} has {len(versions)} rooms with a key")
        rooms = list(versions)
        for start in range(0, len(rooms), 100):  # the most that one request may contain
            chunk = rooms[start : start + 100]
            batch = await request(nc, account, "keys.batch", {"requests": [{"roomId": room} for room in chunk]})
            status = await request(nc, account, "status.batch", {"roomIds": chunk})
            for result in batch["results"]:
                room = result["roomId"]
                # The result has the key as `privateKey`. Never print it.
                print(f"room {room}: key {result.get('version')}, {status[room].get('userCount')} people")
    finally:
        await nc.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
