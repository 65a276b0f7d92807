"""Replacements that send wrong keys, or keys to wrong accounts. Each is a function of the original."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from roomkeys import subjects
from roomkeys.keys import RoomKey
from store.reads import members


def members_before(_survivors_after: Any) -> Callable[..., Any]:
    """Take the members from before the batch for the survivors."""
    return lambda _decision, snapshot: snapshot.everybody


def also_to_removed(fan_out: Any) -> Callable[..., Any]:
    """Send a new key also to bob, who was removed, as a cached list of members would."""

    async def sent(self: Any, keys: Any, *args: Any) -> None:
        await fan_out(self, keys, *args)
        for room_id, key in keys.items():
            if key.version > 0:
                await self.send_key_to_joiners({room_id: key}, {room_id: ["bob"]}, args[-1])

    return sent


def new_bytes(load_rooms: Any) -> Callable[..., Any]:
    """Make new bytes for staged keys that are read back."""

    async def loaded(*args: Any) -> Any:
        rooms = await load_rooms(*args)
        return {room_id: replace(room, keys=_with_new_bytes(room.keys)) for room_id, room in rooms.items()}

    return loaded


def _with_new_bytes(keys: Any) -> Any:
    return keys if keys.staged is None else replace(keys, staged=RoomKey.generate(keys.staged.version))


def same_version(next_version: Any) -> Callable[..., Any]:
    """Use the current version again."""
    return lambda self, at_ms: next_version(self, at_ms) if self.highest_seen is None else self.highest_seen


def falling_versions(_next_version: Any) -> Callable[..., Any]:
    """Let versions rise once and then fall."""
    return lambda self, _at_ms: 9 if not self.highest_seen else self.highest_seen - 2


def without_second_page(pages: Any) -> Callable[..., Any]:
    """Lose the second page of members."""

    async def some(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        number = 0
        async for page in pages(*args, **kwargs):
            number += 1
            if number != 2:
                yield page

    return some


def one_timestamp_per_page(_hand: Any) -> Callable[..., Any]:
    """Serialise a key once per page, each time with another timestamp."""
    number = iter(range(1_000_000))

    async def sent(self: Any, keys: Any, _known: Any, lease: Any, now_ms: int) -> None:
        async for page in members.pages(self.database, lease, keys, first=2, most=2):
            for room_id, accounts in page.items():
                await self.send_key_to_joiners({room_id: keys[room_id]}, {room_id: accounts}, now_ms + next(number))

    return sent


def publish_the_key(fan_out: Any) -> Callable[..., Any]:
    """Publish the key to the room."""

    async def published(self: Any, keys: Any, *args: Any) -> None:
        for room_id, key in keys.items():
            await self.broker.publish(subjects.room_member_event(room_id) + ".debug", key.secret.hex().encode())
        await fan_out(self, keys, *args)

    return published
