"""The demo's subscribers, and the envelopes that its messages travel in.

A message is sealed with AES-256-GCM under the room's current key: `{version, nonce, ciphertext}` with a nonce
of 12 bytes, the tag at the ciphertext's end and no additional data. Who holds the key of that version reads it.
"""

import asyncio
from base64 import b64decode, b64encode
from secrets import token_bytes
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nats.aio.client import Client
from nats.aio.msg import Msg

from roomkeys import subjects
from roomkeys.keys import RoomKey
from worker.commands.story import Reading

_NONCE_BYTES: Final = 12


def seal(text: str, key: RoomKey) -> bytes:
    """Return the text in an envelope."""
    nonce = token_bytes(_NONCE_BYTES)
    ciphertext = AESGCM(key.secret).encrypt(nonce, text.encode(), b"")
    return orjson.dumps(
        {
            "version": key.version,
            "nonce": b64encode(nonce).decode(),
            "ciphertext": b64encode(ciphertext).decode(),
        }
    )


def unseal(envelope: dict[str, Any], secret: bytes) -> str | None:
    """Return the text of an envelope; None: it was sealed with another key."""
    nonce, ciphertext = b64decode(envelope["nonce"]), b64decode(envelope["ciphertext"])
    try:
        return AESGCM(secret).decrypt(nonce, ciphertext, b"").decode()
    except InvalidTag:
        return None


class Reader:
    """One account's client: it knows the keys that were sent to its own subject, and nothing else.

    The keys of a room are in `keys` by version, the envelopes that came in `envelopes`; `at_once` is what it
    could make of each when it came.
    """

    def __init__(self, account: str, client: Client) -> None:
        self.account = account
        self.keys: dict[int, bytes] = {}
        self.envelopes: list[dict[str, Any]] = []
        self.at_once: list[Reading] = []
        self._client = client
        self._came = asyncio.Condition()

    async def listen(self, messages: str) -> None:
        """Listen to its own keys and to the room's messages on the subject `messages`."""
        await self._client.subscribe(subjects.room_key(self.account), cb=self._take_key)
        await self._client.subscribe(messages, cb=self._take_message)
        await self._client.flush()

    async def catch_up(self) -> None:
        """Return when everything has been taken in that the server sent before this call."""
        await self._client.flush()

    async def has_heard(self, messages: int) -> None:
        """Wait until so many messages have come."""
        async with self._came:
            await self._came.wait_for(lambda: len(self.at_once) >= messages)

    def reads(self, envelope: dict[str, Any]) -> Reading:
        """Return what it makes of an envelope with the keys that it has now."""
        secret = self.keys.get(envelope["version"])
        return Reading(secret is not None, None if secret is None else unseal(envelope, secret))

    def in_the_end(self) -> list[Reading]:
        """Return what it makes of every message with the keys that it has now."""
        return [self.reads(envelope) for envelope in self.envelopes]

    async def _take_key(self, message: Msg) -> None:
        body = orjson.loads(message.data)
        self.keys[body["version"]] = b64decode(body["privateKey"])

    async def _take_message(self, message: Msg) -> None:
        envelope = orjson.loads(message.data)
        async with self._came:
            self.envelopes.append(envelope)
            self.at_once.append(self.reads(envelope))
            self._came.notify_all()
