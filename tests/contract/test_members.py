"""Pages of members: every member once, along an index, in as few queries as possible."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from bson import Code, MaxKey, MinKey

from store.leases.lease import Lease
from store.reads import members
from store.reads.snapshot import load_rooms
from tests.contract.stores import Store

Pages = list[dict[str, list[Any]]]


async def all_pages(store: Store, rooms: list[str], page: int, lease: Lease | None = None, first: int = 2_048) -> Pages:
    lease = lease or (await store.lease())[0]
    return [found async for found in members.pages(store.database, lease, rooms, first=first, most=page)]


def together(pages: Pages) -> dict[str, list[Any]]:
    gathered: dict[str, list[Any]] = {}
    for page in pages:
        for room_id, accounts in page.items():
            gathered.setdefault(room_id, []).extend(accounts)
    return gathered


async def test_page_of_members_examines_no_document(store: Store) -> None:
    for room_id in ("r1", "r2"):
        await store.members(room_id, *(f"p{number:03d}" for number in range(200)))
    for rooms, after in ((["r1", "r2"], members.START), (["r1"], "p050")):
        pipeline = members.page_pipeline(rooms, after, 100)
        aggregate = {"aggregate": "subscriptions", "pipeline": pipeline, "cursor": {}}
        plan = await store.database.db.command("explain", aggregate, verbosity="executionStats")
        examined = list(values_of(plan, "totalDocsExamined"))
        assert examined, f"the plan does not say: {plan}"
        assert set(examined) == {0}, f"documents examined: {examined}"


def values_of(plan: Any, field: str) -> list[Any]:
    """Return all values of a field, at any depth of the plan."""
    match plan:
        case dict():
            below = [value for item in plan.values() for value in values_of(item, field)]
            return [plan[field], *below] if field in plan else below
        case list():
            return [value for item in plan for value in values_of(item, field)]
        case _:
            return []


async def test_pages_yield_every_member_of_many_rooms_exactly_once(store: Store) -> None:
    wanted = {
        **{f"r{number}": [f"p{account}" for account in range(number % 4)] for number in range(9)},
        "big": [f"p{account:02d}" for account in range(20)],
        "z-empty": [],
        "z-last": ["only", "\u7c73", "zoë", "\U0001f511", "Z"],
    }
    for room_id, accounts in wanted.items():
        if accounts:
            await store.members(room_id, *accounts)
    await store.members("another room", "p0")
    for page in (1, 2, 3, 7, 1_000):
        found = await all_pages(store, [*wanted, *wanted], page)
        seen = {room_id: sorted(accounts) for room_id, accounts in together(found).items()}
        assert seen == {room_id: sorted(accounts) for room_id, accounts in wanted.items() if accounts}, page
        assert max(sum(map(len, accounts.values())) for accounts in found) <= page


async def test_growing_pages_yield_every_member_once(store: Store) -> None:
    rooms = {f"r{number}": [f"p{other:02}" for other in range(number * 5)] for number in range(1, 6)}
    for room_id, accounts in rooms.items():
        await store.members(room_id, *accounts)
    for page in (1, 2, 3, 8, 50):
        assert together(await all_pages(store, [*rooms], page, first=1)) == rooms


STRANGE = [
    5,
    5.5,
    True,
    None,
    b"x",
    {"a": 1},
    [],
    [5],
    ["a"],
    ["a", "z"],
    ["zz", "bob"],
    Code("alice"),
    MinKey(),
    MaxKey(),
]


@pytest.mark.parametrize("strange", STRANGE, ids=repr)
async def test_account_that_is_not_text_hides_no_member(store: Store, strange: object) -> None:
    """An array is sorted by one of its elements, and found by each of them."""
    wanted = [f"p{number}" for number in range(7)]
    for room_id in ("r1", "r2"):
        await store.members(room_id, strange, *wanted)
    await store.database["subscriptions"].insert_one({"roomId": ["r1", "r3"], "u": {"account": "p10"}})
    for page in (1, 2, 3, 5, 8, 9, 100):
        async with asyncio.timeout(5):
            found = together(await all_pages(store, ["r1", "r2"], page, first=1))
        for room_id in ("r1", "r2"):
            texts = [account for account in found[room_id] if isinstance(account, str)]
            assert texts == wanted, (room_id, page)


async def test_reading_no_rooms_or_accounts_sends_no_query(store: Store) -> None:
    lease, _ = await store.lease()
    store.commands.take()
    assert await all_pages(store, [], 3, lease) == []
    assert await members.still_members(store.database, {}, None) == {}
    assert await members.still_members(store.database, {"r1": []}, None) == {}
    assert await load_rooms(store.database, [], None) == {}
    assert store.commands.take() == Counter()


async def test_many_small_rooms_take_one_query(store: Store) -> None:
    for number in range(30):
        await store.members(f"r{number}", "alice", "bob")
    lease, _ = await store.lease()
    store.commands.take()
    assert len(together(await all_pages(store, [f"r{number}" for number in range(30)], 1_000, lease))) == 30
    assert store.commands.take() == {"aggregate subscriptions": 1}


async def test_still_members_returns_the_remaining_accounts_by_room(store: Store) -> None:
    await store.members("r1", "alice", "bob")
    await store.members("r2", "alice")
    asked = {"r1": ["bob", "carol", "alice"], "r2": ["bob"], "r3": ["alice"], "r4": []}
    found = await members.still_members(store.database, asked, None)
    assert {room_id: sorted(accounts) for room_id, accounts in found.items() if accounts} == {"r1": ["alice", "bob"]}
