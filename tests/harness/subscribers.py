"""What the tests of the subscriber's library have in common: keys, a store, and an ear for requests."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from nats.aio.msg import Msg

from roomkeys import subjects
from roomkeys.client import HeldKey, RoomKey
from roomkeys.messages.room_key import RoomKeyEvent, marshal
from tests.harness.key_service import Asking, secret


def key(room_id: str, version: int) -> RoomKey:
    return RoomKey(version, secret(room_id, version))


async def send(asking: Asking, account: str, *keys: tuple[str, RoomKey]) -> None:
    """Send keys as the worker does."""
    for room_id, one in keys:
        await asking.client.publish(subjects.room_key(account), marshal(RoomKeyEvent(room_id, one), 5))
    await asking.client.flush()


class Heard:
    """The requests of one kind that were asked, by account."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.accounts: Counter[str] = Counter()

    async def hear(self, message: Msg) -> None:
        self.bodies.append(orjson.loads(message.data))
        self.accounts[message.subject.split(".")[2]] += 1


async def listened(asking: Asking, subject: str) -> Heard:
    heard = Heard()
    await asking.client.subscribe(subject, cb=heard.hear)
    await asking.client.flush()
    return heard


class Store:
    """A store in memory that can fail."""

    def __init__(self, *kept: HeldKey) -> None:
        self.kept = kept
        self.saved: list[HeldKey] = []
        self.fails = False
        self.refused = 0

    async def load(self) -> Iterable[HeldKey]:
        return self.kept

    async def save(self, keys: Sequence[HeldKey]) -> None:
        if self.fails:
            self.refused += 1
            raise OSError("disk full")
        self.saved += keys
