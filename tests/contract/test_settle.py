"""Settling: how staged keys become current, and what replaces what."""

from datetime import UTC, datetime

import pytest
from pymongo import MongoClient

from roomkeys.errors import TransientError, WriteConflict
from roomkeys.keys import KeyRecord
from store.database import Document
from store.reads.snapshot import load_rooms
from store.writes import settle
from store.writes.settle import PAST_KEYS
from tests.contract.stores import AT, DAY, Store, apply_batch, created, remove, room, rotate, settle_batch


async def test_staged_key_becomes_current_when_it_settles(store: Store) -> None:
    lease, position = await created(store, "bob", "carol")
    first = (await room(store))["encKey"]
    applied = await apply_batch(store, lease, position, [remove(2, "r1", "bob")])
    staged = await room(store)
    assert staged["encKey"] == first, "a staged key is not in use"
    assert (staged["keyRotation"]["high"], staged["keyRotation"]["settled"]) == (1, 0)
    (stored,) = (await load_rooms(store.database, ["r1"], lease.session)).values()
    record = stored.keys
    assert (record.staged, record.high, record.settled) == (applied.staged["r1"], 1, 0)
    await settle_batch(store, lease, applied)
    (stored,) = (await load_rooms(store.database, ["r1"], lease.session)).values()
    record = stored.keys
    assert (record.current, record.staged, record.settled) == (applied.staged["r1"], None, 1)
    in_use = (await room(store))["encKey"]
    assert in_use == {
        "priv": applied.staged["r1"].secret,
        "ver": 1,
        "prevPriv": first["priv"],
        "prevVer": 0,
        "prevExpiresAt": datetime.fromtimestamp((AT + DAY) / 1000, UTC),
    }
    found = await store.database.find("subscriptions", {"roomId": "r1"}, {})
    assert {item["u"]["account"] for item in found} == {"alice", "carol"}


async def test_settling_twice_changes_nothing_the_second_time(store: Store) -> None:
    lease, position = await created(store, "bob", "carol")
    applied = await apply_batch(store, lease, position, [remove(2, "r1", "bob")])
    await settle_batch(store, lease, applied)
    before = await room(store)
    with pytest.raises(TransientError):
        await settle_batch(store, lease, applied, now=AT + 5)
    assert await room(store) == before


async def test_foreign_key_written_after_the_check_is_a_conflict(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lease, position = await created(store, "bob")
    applied = await apply_batch(store, lease, position, [rotate(2, "r1")])
    unchanged = settle._is_unchanged
    theirs = {"priv": bytes(32), "ver": 9}

    def meanwhile(found: Document, record: KeyRecord) -> bool:
        with MongoClient[Document](store.uri) as other:
            other[store.name].rooms.update_one({"_id": "r1"}, {"$set": {"encKey": theirs}})
        return unchanged(found, record)

    monkeypatch.setattr(settle, "_is_unchanged", meanwhile)
    with pytest.raises(WriteConflict):
        await settle_batch(store, lease, applied)
    assert (await room(store))["encKey"] == theirs


async def test_foreign_key_written_before_the_check_stays_fetchable(store: Store) -> None:
    """The staged key has a higher version and replaces it. Members may ask for it in its grace period."""
    lease, position = await created(store, "bob")
    applied = await apply_batch(store, lease, position, [rotate(2, "r1"), rotate(3, "r1")])
    theirs = {"priv": bytes(32), "ver": 1}
    await store.database["rooms"].update_one({"_id": "r1"}, {"$set": {"encKey": theirs}})
    with pytest.raises(TransientError):
        await settle_batch(store, lease, applied)
    assert (await room(store))["encKey"] == theirs
    rooms = await load_rooms(store.database, ["r1"], lease.session)
    await settle.settle(store.database, lease, {"r1": rooms["r1"].keys}, {}, finished_ids=(), now_ms=AT, grace_ms=DAY)
    found = await room(store)
    assert (found["encKey"]["ver"], found["encKey"]["prevVer"]) == (2, 1)
    assert {key["ver"]: key["priv"] for key in found["keyRotation"]["past"]}[1] == bytes(32)


async def test_past_keys_are_bounded_and_the_newest_stay(store: Store) -> None:
    lease, position = await created(store, "bob", "carol")
    until = datetime.fromtimestamp((AT + DAY) / 1000, UTC)
    past = [{"ver": -number, "priv": b"p" * 32, "until": until} for number in range(PAST_KEYS + 50, 0, -1)]
    await store.database["rooms"].update_one({"_id": "r1"}, {"$set": {"keyRotation.past": past}})
    applied = await apply_batch(store, lease, position, [remove(2, "r1", "bob")])
    await settle_batch(store, lease, applied)
    kept = [key["ver"] for key in (await room(store))["keyRotation"]["past"]]
    assert kept == [*range(1 - PAST_KEYS, 0), 0], f"{len(kept)} kept, {kept[:3]} to {kept[-3:]}"


async def test_expired_past_keys_are_deleted(store: Store) -> None:
    lease, position = await created(store, "bob", "carol")
    applied = await apply_batch(store, lease, position, [rotate(2, "r1")])
    await settle_batch(store, lease, applied, grace_ms=1_000)
    assert [key["ver"] for key in (await room(store))["keyRotation"]["past"]] == [0]
    applied = await apply_batch(store, lease, applied.position, [rotate(3, "r1")], now=AT + 1_001)
    await settle_batch(store, lease, applied, now=AT + 1_001)
    assert [key["ver"] for key in (await room(store))["keyRotation"]["past"]] == [1]
