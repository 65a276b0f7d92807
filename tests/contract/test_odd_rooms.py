"""Settling reads a room back, as recovery does, whatever another program has put into it since its key was staged."""

from typing import Any

import pytest

from roomkeys.errors import DatabaseError
from store.reads.snapshot import load_rooms
from store.writes import settle
from tests.contract.stores import AT, DAY, Applied, Store, apply_batch, create, remove, room, settle_batch

VALUES: list[Any] = [None, "x", [], {}, 7.5, True, -1, [{"ver": 1}]]
ROOMS = [f"r{number}" for number in range(len(VALUES))]
FIELDS = ["keyRotation.settled", "keyRotation.current", "keyRotation.past", "keyRotation.high", "userCount", "encKey"]


async def staged(store: Store, field: str) -> tuple[Any, Applied]:
    """Create a room for each value, remove bob from all of them, and put the values into the field."""
    await store.people("alice", "bob", "carol")
    lease, position = await store.lease()
    creates = [create(number, room_id, "bob", "carol") for number, room_id in enumerate(ROOMS, 1)]
    applied = await apply_batch(store, lease, position, creates)
    await settle_batch(store, lease, applied)
    removes = [remove(100 + number, room_id, "bob") for number, room_id in enumerate(ROOMS)]
    applied = await apply_batch(store, lease, applied.position, removes)
    for room_id, value in zip(ROOMS, VALUES, strict=True):
        await store.database["rooms"].update_one({"_id": room_id}, {"$set": {field: value}})
    return lease, applied


@pytest.mark.parametrize("field", [*FIELDS, "encKey.ver"])
async def test_staged_key_settles_whatever_a_field_contains(store: Store, field: str) -> None:
    lease, applied = await staged(store, field)
    rooms = await load_rooms(store.database, ROOMS, lease.session)
    records = {room_id: rooms[room_id].keys for room_id in ROOMS}
    await settle.settle(store.database, lease, records, {}, finished_ids=[], now_ms=AT, grace_ms=DAY)
    for room_id in ROOMS:
        found = await room(store, room_id)
        assert found["encKey"]["priv"] == applied.staged[room_id].secret
        assert isinstance(found["keyRotation"]["past"], list)


async def test_key_that_is_no_longer_staged_does_not_settle(store: Store) -> None:
    lease, applied = await staged(store, "keyRotation.staged")
    for room_id, record in applied.records.items():
        with pytest.raises(DatabaseError):
            await settle.settle(store.database, lease, {room_id: record}, {}, finished_ids=[], now_ms=AT, grace_ms=DAY)
        assert (await room(store, room_id))["encKey"]["ver"] == 0
