"""The demo's stage: plays the steps of a story on real servers and shows who could read what."""

from collections.abc import Iterable, Sequence
from typing import Final

import orjson

from roomkeys.client.envelope import seal
from roomkeys.keys import RoomKey
from store.database import Database
from worker.broker import producer
from worker.broker.connection import Broker
from worker.broker.producer import Request
from worker.cli.demo.story import Add, ComeBack, Create, GoOffline, Reading, Remove, Say, Step
from worker.cli.demo.subscriber import Subscriber
from worker.cli.terminal.output import safe, show
from worker.cli.terminal.process import Failed, give_way

ROOM: Final = "general"
MESSAGES: Final = f"demo.room.{ROOM}.message"
"""Where the demo's chat goes; messages are other services' business, so the subject is the demo's own."""


class Stage:
    """A room, a producer, and everybody who listens."""

    def __init__(self, broker: Broker, database: Database, site: str, readers: Sequence[Subscriber]) -> None:
        self._broker = broker
        self._database = database
        self._site = site
        self._readers = readers
        self._said: list[bytes] = []

    async def play(self, step: Step) -> None:
        """Play one step and show what came of it; `Failed` if the worker refuses what the story asks."""
        give_way()
        show("")
        match step:
            case Create(by, users):
                await self._ask(
                    f"creates the room with {_list(users)}", producer.create(ROOM, by, name=ROOM, users=users)
                )
            case Add(by, users):
                await self._ask(f"adds {_list(users)}", producer.add(ROOM, by, users=users))
            case Remove(by, users):
                await self._ask(f"removes {_list(users)}", producer.remove(ROOM, by, users=users))
            case Say(by, text):
                await self._say(by, text)
            case GoOffline(by):
                show((by, "bold"), " goes offline")
                await self._reader(by).go()
            case ComeBack(by):
                show((by, "bold"), " comes back")
                await self._catches_up(self._reader(by))

    async def _ask(self, what: str, request: Request) -> None:
        show((request.requester, "bold"), f" {what}")
        held = {reader.account: reader.versions for reader in self._readers}
        _, result = await producer.ask(self._broker, self._site, request)
        if result.get("status") != "ok":
            seen = f"{result.get('code')} / {result.get('reason')}"
            raise Failed(f"expected that {request.requester} {what}; the worker answered {safe(seen)}")
        for reader in self._readers:
            await reader.hear_all()
        fresh = {reader.account: reader.versions - held[reader.account] for reader in self._readers}
        keys = [_masked(account, versions) for account, versions in fresh.items() if versions]
        show(("    keys sent: ", "dim"), (", ".join(keys) or "none", "cyan"))

    async def _catches_up(self, reader: Subscriber) -> None:
        held = reader.versions
        await reader.come(MESSAGES)
        missed = self._said[len(reader.envelopes) :]
        readings = await reader.catch_up(missed)
        show(("    keys asked for: ", "dim"), (_masked(reader.account, reader.versions - held) or "none", "cyan"))
        texts = [reading.text or f"nothing ({_why(reading)})" for reading in readings]
        show(("    reads on: ", "dim"), (" ".join(texts) or "nothing was said", "italic"))

    def _reader(self, account: str) -> Subscriber:
        return next(reader for reader in self._readers if reader.account == account)

    async def _say(self, by: str, text: str) -> None:
        key = await self._key_in_use()
        self._said.append(orjson.dumps(seal(key, text.encode())))
        await self._broker.client.publish(MESSAGES, self._said[-1])
        online = [reader for reader in self._readers if reader.is_online]
        for reader in online:
            await reader.has_heard(len(self._said))
        show((by, "bold"), " says: ", (text, "italic"), (f"  (sealed with v{key.version})", "dim"))
        readings = {reader.account: reader.at_once[-1] for reader in online}
        able = [account for account, reading in readings.items() if reading.text is not None]
        show(("    can read it: ", "dim"), (", ".join(able) or "nobody", "green"))
        unable = [f"{account} ({_why(reading)})" for account, reading in readings.items() if reading.text is None]
        if unable:
            show(("    cannot:      ", "dim"), (", ".join(unable), "red"))

    async def _key_in_use(self) -> RoomKey:
        """Read the key to seal messages with now, as any other service does. (contract.md, section 5)"""
        room = await self._database["rooms"].find_one({"_id": ROOM}, {"encKey.priv": 1, "encKey.ver": 1})
        if not room or "encKey" not in room:
            raise Failed("expected that the room has a key in use; it has none")
        return RoomKey(room["encKey"]["ver"], bytes(room["encKey"]["priv"]))


def _masked(account: str, versions: Iterable[int]) -> str:
    return ", ".join(f"{account} v{version} ••••" for version in sorted(versions))


def _why(reading: Reading) -> str:
    return "its key is another one" if reading.has_key else "no key for it"


def _list(names: Iterable[str]) -> str:
    return " and ".join(names)
