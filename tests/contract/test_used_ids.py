"""A room that is deleted and created again continues above every version that it can have used."""

from typing import Any

from store.documents import USED_IDS
from store.setup.indexes import ensure_indexes
from tests.contract.stores import AT, Applied, Store, apply_batch, create, created, remove, room, rotate, settle_batch

CLOCK = AT // 1000


async def again(store: Store, lease: Any, applied: Applied, sequence: int, *users: str) -> Applied:
    """Delete the room with all that belongs to it, as another program does, and create it again."""
    for collection, field in (("rooms", "_id"), ("subscriptions", "roomId"), ("room_members", "rid")):
        await store.database[collection].delete_many({field: "r1"})
    applied = await apply_batch(store, lease, applied.position, [create(sequence, "r1", *users)])
    await settle_batch(store, lease, applied)
    return applied


async def test_new_room_begins_with_version_0(store: Store) -> None:
    await created(store, "bob")
    assert (await room(store))["encKey"]["ver"] == 0
    assert [item["_id"] for item in await store.database.find(USED_IDS, {}, {})] == ["r1"]


async def test_room_created_again_continues_from_the_clock(store: Store) -> None:
    lease, position = await created(store, "bob", "carol")
    applied = await apply_batch(store, lease, position, [rotate(2, "r1")])
    await settle_batch(store, lease, applied)
    await again(store, lease, applied, 3, "bob")
    assert (await room(store))["encKey"]["ver"] == CLOCK


async def test_room_created_again_continues_above_versions_ahead_of_the_clock(store: Store) -> None:
    lease, position = await created(store, "bob", "carol")
    applied = await apply_batch(store, lease, position, [rotate(2, "r1")])
    await settle_batch(store, lease, applied)
    applied = await again(store, lease, applied, 3, "bob")
    for sequence in (4, 5):
        applied = await apply_batch(store, lease, applied.position, [rotate(sequence, "r1"), rotate(sequence, "r1")])
        await settle_batch(store, lease, applied)
    assert (await room(store))["encKey"]["ver"] == CLOCK + 4
    await again(store, lease, applied, 6, "bob")
    assert (await room(store))["encKey"]["ver"] == CLOCK + 5


async def test_room_that_lost_its_versions_continues_above_those_of_all_rooms(store: Store) -> None:
    lease, position = await created(store, "bob", "carol")
    await store.database["rooms"].update_one({"_id": "r1"}, {"$set": {"keyRotation.high": CLOCK + 9}})
    applied = await apply_batch(store, lease, position, [rotate(2, "r1")])
    await settle_batch(store, lease, applied)
    await store.database["rooms"].update_one({"_id": "r1"}, {"$unset": {"keyRotation": 1, "encKey": 1}})
    applied = await apply_batch(store, lease, applied.position, [remove(3, "r1", "bob")])
    assert applied.staged["r1"].version == CLOCK + 11


async def test_rooms_of_an_earlier_program_count_as_used(store: Store) -> None:
    await store.database[USED_IDS].drop()
    await store.database["rooms"].insert_many([{"_id": "old", "type": "channel"}, {"_id": "dm", "type": "dm"}])
    await ensure_indexes(store.database)
    assert [item["_id"] for item in await store.database.find(USED_IDS, {}, {})] == ["old"]
    await store.database["rooms"].delete_many({})
    await store.people("alice", "bob")
    lease, position = await store.lease()
    applied = await apply_batch(store, lease, position, [create(1, "old", "bob"), create(2, "dm", "bob")])
    assert {room_id: key.version for room_id, key in applied.staged.items()} == {"old": CLOCK, "dm": 0}


async def test_dm_uses_no_id(store: Store) -> None:
    await store.people("alice", "bob")
    lease, position = await store.lease()
    await apply_batch(store, lease, position, [create(1, "d1", "bob", name="")])
    assert await store.database.find(USED_IDS, {}, {}) == []
