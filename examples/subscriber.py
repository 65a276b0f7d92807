"""A subscriber: keeps the room keys of an account and opens messages sealed with them.

    NATS_URL=nats://localhost:4222 SITE_ID=site-local python examples/subscriber.py alice

Other services send the messages. This example expects them on `example.room.{roomId}.message`.
"""

import asyncio
import os
import sys

import nats
from nats.aio.msg import Msg

from roomkeys.client import RoomKeys, RoomKeysError

SITE = os.environ.get("SITE_ID", "site-local")


async def main(account: str) -> None:
    """Listen until Ctrl-C."""
    url = os.environ.get("NATS_URL", "nats://localhost:4222")
    nc = await nats.connect(url, max_reconnect_attempts=-1, inbox_prefix=f"_INBOX.{account}")

    async with RoomKeys(nc, account, SITE) as keys:

        async def read(message: Msg) -> None:
            room_id = message.subject.split(".")[2]
            try:
                text = await keys.open(room_id, message.data)
            except RoomKeysError as error:  # the text names the missing key and the reason
                print(error, flush=True)
            else:
                print(f"room {room_id}: {text.decode()}", flush=True)

        changes = keys.changes()
        await nc.subscribe("example.room.*.message", cb=read)
        await nc.flush()
        print(f"listening as {account}", flush=True)
        async for held in changes:
            print(f"key {held.version} of room {held.room_id}", flush=True)  # never print the key itself


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
