"""The payload of a room key, serialised once per fan-out. (docs/contract.md, section 2; docs/design.md, invariant 5)"""

from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import orjson

from roomkeys.errors import invalid_account
from roomkeys.keys import RoomKey
from roomkeys.subjects import room_key
from roomkeys.tokens import is_token


@dataclass(frozen=True, slots=True)
class RoomKeyEvent:
    """One key of one room, before it is stamped and serialised. Its repr shows no key bytes."""

    room_id: str
    key: RoomKey


def marshal(event: RoomKeyEvent, now_ms: int) -> bytes:
    """Return the event as JSON, stamped with `now_ms` (epoch milliseconds)."""
    secret = b64encode(event.key.secret).decode()
    return orjson.dumps(
        {"roomId": event.room_id, "version": event.key.version, "privateKey": secret, "timestamp": now_ms}
    )


class Sender:
    """Sends keys over any `publish(subject, payload)`. To many accounts: `marshal` once, then `send_data` for each."""

    def __init__(self, publish: Callable[[str, bytes], Awaitable[None]], now_ms: Callable[[], int]) -> None:
        self._publish = publish
        self._now_ms = now_ms

    def marshal(self, event: RoomKeyEvent) -> bytes:
        """Return the stamped and serialised event; the event itself does not change."""
        return marshal(event, self._now_ms())

    async def send_data(self, account: str, payload: bytes) -> None:
        """Publish serialised bytes. Raise `Rejection` if the account is not a token."""
        if not is_token(account):
            raise invalid_account("the recipient is not a token")
        await self._publish(room_key(account), payload)

    async def send(self, account: str, event: RoomKeyEvent) -> None:
        """Serialise the event and publish it to one account. Raise `Rejection` if the account is not a token."""
        await self.send_data(account, self.marshal(event))
