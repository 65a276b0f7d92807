"""Who is in a room: whole rooms with the batch, and pages that grow."""

from collections.abc import AsyncIterator
from typing import get_args

import pytest

from store.database import Driver
from store.reads import batch_query
from store.reads.snapshot import load_batch
from tests.contract.stores import Store, opened
from tests.contract.test_store_contract import all_pages, rotate, together

STRANGE: list[object] = [None, 5, 5.5, True, b"x", {"a": 1}, [], ["q", "r"], "\u00e9", "\U0001f511", "a b"]


@pytest.fixture(params=get_args(Driver))
async def store(request: pytest.FixtureRequest, mongo_uri: str, database: str) -> AsyncIterator[Store]:
    async with opened(mongo_uri, database, request.param) as made:
        yield made


async def test_a_room_comes_whole_or_not_at_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms: dict[str, list[object]] = {
        f"r{number}": [*STRANGE[: 2 * number], *(f"p{other}" for other in range(number))] for number in range(1, 6)
    }
    rooms |= {"\uffff": ["x", "y"], "\U0001f511": ["x", "y", "z"]}
    for room_id, accounts in rooms.items():
        await store.members(room_id, *accounts)
    await store.people("alice")
    lease, _ = await store.lease()
    events = [rotate(sequence, room_id) for sequence, room_id in enumerate(rooms, 1)]
    found: set[int] = set()
    for small, page in ((small, page) for small in (1, 3, 4, 6, 100) for page in (1, 5, 17, 40, 8_192)):
        monkeypatch.setattr(batch_query, "_SMALL_ROOM_ACCOUNTS", small)
        everybody = (await load_batch(store.database, events, lease.session, page=page)).everybody
        found.add(len(everybody))
        for room_id, present in everybody.items():
            assert sorted(map(repr, present)) == sorted(map(repr, rooms[room_id])), (small, page, room_id)
    assert {0, len(rooms)} < found, "none, some and all of the rooms were there"


async def test_pages_that_grow_bring_everybody_once(store: Store) -> None:
    rooms = {f"r{number}": [f"p{other:02}" for other in range(number * 5)] for number in range(1, 6)}
    for room_id, accounts in rooms.items():
        await store.members(room_id, *accounts)
    for page in (1, 2, 3, 8, 50):
        assert together(await all_pages(store, [*rooms], page, first=1)) == rooms
