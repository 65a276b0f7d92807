"""The stage of the demo: plays the steps of a story on real servers, and shows who could read what."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from roomkeys.client.envelope import seal
from roomkeys.keys import RoomKey
from store.database import Database
from worker.broker.cancellation import raise_if_cancelled
from worker.broker.connection import Broker
from worker.cli.demo.story import Reading, Step
from worker.cli.demo.subscriber import Subscriber
from worker.cli.terminal import producer
from worker.cli.terminal.output import safe, show
from worker.cli.terminal.process import CommandFailed
from worker.cli.terminal.producer import Request

ROOM: Final = "general"
MESSAGES: Final = f"demo.room.{ROOM}.message"
"""The subject of the chat. Chat messages belong to other services, so the demo has its own subject for them."""


@dataclass
class Stage:
    """A room, a producer, and the subscribers by account. `said` has the messages, as they were sent."""

    broker: Broker
    database: Database
    site: str
    subscribers: Mapping[str, Subscriber]
    said: list[bytes] = field(default_factory=list)

    async def play(self, step: Step) -> None:
        """Play one step and show its outcome; raises `CommandFailed` if the worker rejects the step."""
        raise_if_cancelled()
        show("")
        names = " and ".join(step.users)
        match step.does:
            case "create":
                request = producer.create(ROOM, step.by, name=ROOM, users=step.users)
                await self._ask(f"creates the room with {names}", request)
            case "add":
                await self._ask(f"adds {names}", producer.add(ROOM, step.by, users=step.users))
            case "remove":
                await self._ask(f"removes {names}", producer.remove(ROOM, step.by, users=step.users))
            case "say":
                await self._say(step.by, step.text)
            case "go offline":
                show((step.by, "bold"), " goes offline")
                await self.subscribers[step.by].disconnect()
            case "come back":
                show((step.by, "bold"), " comes back")
                await self._catch_up(self.subscribers[step.by])

    async def _ask(self, action: str, request: Request) -> None:
        show((request.requester, "bold"), f" {action}")
        before = {account: subscriber.versions for account, subscriber in self.subscribers.items()}
        _, result = await producer.ask(self.broker, self.site, request)
        if result.get("status") != "ok":
            error = safe(f"{result.get('code')} / {result.get('reason')}")
            raise CommandFailed(f"the worker rejected the step '{request.requester} {action}' with {error}")
        keys = []
        for account, subscriber in self.subscribers.items():
            if subscriber.client:
                await subscriber.client.flush()  # the keys that the server has sent have come
            keys += _masked(account, subscriber.versions - before[account])
        show(("    keys sent: ", "dim"), (", ".join(keys) or "none", "cyan"))

    async def _catch_up(self, subscriber: Subscriber) -> None:
        before = subscriber.versions
        await subscriber.connect(MESSAGES)
        missed = self.said[len(subscriber.envelopes) :]
        readings = await subscriber.catch_up(missed)
        fetched = _masked(subscriber.account, subscriber.versions - before)
        show(("    keys fetched: ", "dim"), (", ".join(fetched) or "none", "cyan"))
        texts = [reading.text or f"nothing ({_why(reading)})" for reading in readings]
        show(("    reads what it missed: ", "dim"), (" ".join(texts) or "nothing", "italic"))

    async def _say(self, by: str, text: str) -> None:
        key = await self._current_key()
        self.said.append(orjson.dumps(seal(key, text.encode())))
        await self.broker.client.publish(MESSAGES, self.said[-1])
        online = [subscriber for subscriber in self.subscribers.values() if subscriber.client]
        readings = {subscriber.account: await subscriber.receive() for subscriber in online}
        show((by, "bold"), " says: ", (text, "italic"), (f"  (sealed with v{key.version})", "dim"))
        able = [account for account, reading in readings.items() if reading.text is not None]
        show(("    can read it:    ", "dim"), (", ".join(able) or "none", "green"))
        unable = [f"{account} ({_why(reading)})" for account, reading in readings.items() if reading.text is None]
        if unable:
            show(("    cannot read it: ", "dim"), (", ".join(unable), "red"))

    async def _current_key(self) -> RoomKey:
        """Read the key to seal messages with, in the same way as other services. (docs/contract.md, section 5)"""
        room = await self.database["rooms"].find_one({"_id": ROOM}, {"encKey.priv": 1, "encKey.ver": 1})
        if not room or "encKey" not in room:
            raise CommandFailed("the room has no current key")
        return RoomKey(room["encKey"]["ver"], bytes(room["encKey"]["priv"]))


def _masked(account: str, versions: Iterable[int]) -> list[str]:
    return [f"{account} v{version} ••••" for version in sorted(versions)]


def _why(reading: Reading) -> str:
    return "wrong key" if reading.has_key else "no key"
