"""An asker: asks the key service with plain NATS requests, as a program in any language can.

    NATS_URL=nats://localhost:4222 SITE_ID=site-local python examples/asker.py alice

It lists the rooms of an account with the versions of their keys, then how each room stands.
"""

import asyncio
import os
import sys
from typing import Any

import nats
import orjson
from nats.aio.client import Client

SITE = os.environ.get("SITE_ID", "site-local")


async def ask(nc: Client, account: str, what: str, question: dict[str, Any]) -> dict[str, Any]:
    """Ask and return the answer; an error is an answer with a code."""
    subject = f"chat.user.{account}.request.rooms.{SITE}.{what}"
    reply = await nc.request(subject, orjson.dumps(question), timeout=5)
    answer: dict[str, Any] = orjson.loads(reply.data)
    if isinstance(answer.get("code"), str):  # a room's id may be "code", too
        raise SystemExit(f"{what}: {answer['code']} / {answer.get('reason')}")
    return answer


async def current_versions(nc: Client, account: str) -> dict[str, int]:
    """Ask page by page for every key that is not held yet: here all of them."""
    versions: dict[str, int] = {}
    question: dict[str, Any] = {"have": {}}
    while True:
        page = await ask(nc, account, "keys.sync", question)
        versions |= {result["roomId"]: result["version"] for result in page["results"]}
        if "cursor" not in page:
            return versions
        question["cursor"] = page["cursor"]


async def main(account: str) -> None:
    """Ask for everything there is to know."""
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://localhost:4222"))
    try:
        versions = await current_versions(nc, account)
        print(f"{account} has {len(versions)} rooms with a key")
        rooms = list(versions)
        for start in range(0, len(rooms), 100):  # the most that one request may name
            some = rooms[start : start + 100]
            batch = await ask(nc, account, "keys.batch", {"requests": [{"roomId": room} for room in some]})
            status = await ask(nc, account, "status.batch", {"roomIds": some})
            for result in batch["results"]:
                room = result["roomId"]
                # The answer has the key as `privateKey`; it is never printed.
                print(f"room {room}: key {result.get('version')}, {status[room].get('userCount')} people")
    finally:
        await nc.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
