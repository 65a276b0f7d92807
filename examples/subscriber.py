"""A subscriber: keeps the room keys that an account is sent, and reads messages sealed with them.

    NATS_URL=nats://localhost:4222 python examples/subscriber.py alice

Messages are other services' business. Here they come on `example.room.{roomId}.message`, sealed with
AES-256-GCM: `{"version", "nonce", "ciphertext"}`, the tag at the end, no additional data.
"""

import asyncio
import os
import sys
from base64 import b64decode

import nats
import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nats.aio.msg import Msg

keys: dict[tuple[str, int], bytes] = {}
"""One key for each room and version: it is never replaced, and a version may be missing."""


async def take_key(message: Msg) -> None:
    """Keep a key; the same one may come again, in any order."""
    event = orjson.loads(message.data)
    keys.setdefault((event["roomId"], event["version"]), b64decode(event["privateKey"]))
    print(f"key {event['version']} of room {event['roomId']}", flush=True)  # never the key itself


async def read_message(message: Msg) -> None:
    """Open a message with the key of the version that it names."""
    room_id = message.subject.split(".")[2]
    envelope = orjson.loads(message.data)
    key = keys.get((room_id, envelope["version"]))
    if key is None:
        print(f"room {room_id}: no key {envelope['version']} to read a message with", flush=True)
        return
    text = AESGCM(key).decrypt(b64decode(envelope["nonce"]), b64decode(envelope["ciphertext"]), None)
    print(f"room {room_id}: {text.decode()}", flush=True)


async def main(account: str) -> None:
    """Listen until Ctrl-C."""
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://localhost:4222"), max_reconnect_attempts=-1)
    await nc.subscribe(f"chat.user.{account}.event.room.key", cb=take_key)
    await nc.subscribe("example.room.*.message", cb=read_message)
    await nc.flush()
    print(f"listening as {account}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
