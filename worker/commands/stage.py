"""The demo's stage: plays the steps of a story on real servers and shows who could read what."""

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Final

from roomkeys.keys import RoomKey
from store.connect import Database
from worker import producer
from worker.broker import Broker
from worker.commands.printing import safe, show
from worker.commands.reader import Reader, seal
from worker.commands.running import Failed, give_way
from worker.commands.story import Add, Create, Reading, Remove, Say, Step
from worker.producer import Request

ROOM: Final = "general"
MESSAGES: Final = f"demo.room.{ROOM}.message"
"""Where the demo's chat goes; messages are other services' business, so the subject is the demo's own."""


class Stage:
    """A room, a producer, and everybody who listens."""

    def __init__(self, broker: Broker, database: Database, site: str, readers: Sequence[Reader]) -> None:
        self._broker = broker
        self._database = database
        self._site = site
        self._readers = readers
        self._messages = count(1)

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

    async def _ask(self, what: str, request: Request) -> None:
        show((request.requester, "bold"), f" {what}")
        held = {reader.account: set(reader.keys) for reader in self._readers}
        _, result = await producer.ask(self._broker, self._site, request)
        if result.get("status") != "ok":
            seen = f"{result.get('code')} / {result.get('reason')}"
            raise Failed(f"expected that {request.requester} {what}; the worker answered {safe(seen)}")
        for reader in self._readers:
            await reader.catch_up()
        fresh = {reader.account: sorted(set(reader.keys) - held[reader.account]) for reader in self._readers}
        keys = [f"{account} v{version} ••••" for account, versions in fresh.items() for version in versions]
        show(("    keys sent: ", "dim"), (", ".join(keys) or "none", "cyan"))

    async def _say(self, by: str, text: str) -> None:
        number = next(self._messages)
        key = await self._key_in_use()
        await self._broker.client.publish(MESSAGES, seal(text, key))
        for reader in self._readers:
            await reader.has_heard(number)
        show((by, "bold"), " says: ", (text, "italic"), (f"  (sealed with v{key.version})", "dim"))
        readings = {reader.account: reader.at_once[-1] for reader in self._readers}
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


def _why(reading: Reading) -> str:
    return "its key is another one" if reading.has_key else "no key for it"


def _list(names: Iterable[str]) -> str:
    return " and ".join(names)
