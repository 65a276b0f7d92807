"""Wrong keys: who is sent what, and which. Each function makes what is broken from the original."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from roomkeys import subjects
from roomkeys.keys import RoomKey
from store.reads import members


def those_of_before(_survivors_after: Any) -> Callable[..., Any]:
    """Take those for survivors who were members before the batch."""
    return lambda _decision, snapshot: snapshot.everybody


def with_the_removed(fan_out: Any) -> Callable[..., Any]:
    """Send a key also to somebody who was removed, as a list of members in memory would."""

    async def sent(self: Any, keys: Any, *args: Any) -> None:
        await fan_out(self, keys, *args)
        for room_id, key in keys.items():
            if key.version > 0:
                await self.send_key_to_joiners({room_id: key}, {room_id: ["bob"]}, args[-1])

    return sent


def minting_anew(load_rooms: Any) -> Callable[..., Any]:
    """Make new bytes for a staged key that is read back."""

    async def loaded(*args: Any) -> Any:
        rooms = await load_rooms(*args)
        return {room_id: replace(room, keys=_minted(room.keys)) for room_id, room in rooms.items()}

    return loaded


def _minted(keys: Any) -> Any:
    return keys if keys.staged is None else replace(keys, staged=RoomKey.generate(keys.staged.version))


def the_same_again(next_version: Any) -> Callable[..., Any]:
    """Use the version that is in use once more."""
    return lambda self, at_ms: next_version(self, at_ms) if self.highest_seen is None else self.highest_seen


def falling(_next_version: Any) -> Callable[..., Any]:
    """Go up once, and then down."""
    return lambda self, _at_ms: 9 if not self.highest_seen else self.highest_seen - 2


def all_but_the_second(pages: Any) -> Callable[..., Any]:
    """Lose a page."""

    async def some(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        number = 0
        async for page in pages(*args, **kwargs):
            number += 1
            if number != 2:
                yield page

    return some


def one_stamp_each(_hand: Any) -> Callable[..., Any]:
    """Serialise a key once a page, each time with another stamp."""
    number = iter(range(1_000_000))

    async def sent(self: Any, keys: Any, _known: Any, lease: Any, now_ms: int) -> None:
        async for page in members.pages(self.database, lease, keys, first=2, most=2):
            for room_id, accounts in page.items():
                await self.send_key_to_joiners(
                    {room_id: keys[room_id]}, {room_id: accounts}, now_ms + next(number)
                )

    return sent


def telling_the_key(fan_out: Any) -> Callable[..., Any]:
    """Tell a room its key."""

    async def told(self: Any, keys: Any, *args: Any) -> None:
        for room_id, key in keys.items():
            await self.broker.publish(subjects.room_member_event(room_id) + ".debug", key.secret.hex().encode())
        await fan_out(self, keys, *args)

    return told
