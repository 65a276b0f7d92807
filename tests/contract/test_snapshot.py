"""Snapshots: what a batch names, and the members of small rooms, through indexes."""

import pytest
from bson import Code

from store.reads import batch_query, members
from store.reads.batch_query import batch_pipeline
from store.reads.snapshot import load_batch
from tests.contract.stores import Store, remove, rotate

STRANGE: list[object] = [None, 5, 5.5, True, b"x", {"a": 1}, [], ["q", "r"], "\u00e9", "\U0001f511", "a b"]


async def test_member_named_in_one_room_is_not_found_in_another(store: Store) -> None:
    """Rooms share clauses, so the server also finds accounts in rooms for which they were not requested."""
    await store.members("r1", "alice", "bob")
    await store.members("r2", "alice", "bob")
    lease, _ = await store.lease()
    found = await load_batch(store.database, [remove(1, "r1", "bob"), rotate(2, "r2")], lease.session, page=16_384)
    by_room = {room_id: set(of_room) for room_id, of_room in found.members.items()}
    assert by_room == {"r1": {"alice", "bob"}, "r2": {"alice"}}


async def test_members_of_a_room_are_read_all_or_not_at_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert {0, len(rooms)} < found, "none, some and all of the rooms were complete"


async def test_code_is_no_account(store: Store) -> None:
    """To the drivers code is a text, and MongoDB makes a text of it."""
    await store.people("alice")
    await store.members("r1", "alice", Code("dave"))
    lease, _ = await store.lease()
    found = await load_batch(store.database, [rotate(1, "r1")], lease.session, page=100)
    assert found.everybody == {"r1": ["alice", None]}
    pages = members.pages(store.database, lease, ["r1"], first=9, most=9)
    assert [page async for page in pages] == [{"r1": ["alice"]}]


async def test_batch_query_uses_only_indexes(store: Store) -> None:
    await store.people("alice", "bob")
    await store.members("r1", "alice", "bob")
    pipeline = batch_pipeline({"r1": ["alice", "bob"], "r2": ["carol"]}, ["r1", "r2"], 512)
    command = {"aggregate": "rooms", "pipeline": pipeline, "cursor": {}}
    plan = str(await store.database.db.command({"explain": command, "verbosity": "queryPlanner"}))
    assert "COLLSCAN" not in plan
    assert plan.count("IXSCAN") >= 4, plan
