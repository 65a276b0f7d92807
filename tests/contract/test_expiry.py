"""Replaced keys are erased once their time has passed, and the erasure can undo nothing that settle writes."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo import MongoClient

from roomkeys.errors import Refused, WriteConflict
from store.database import Document
from store.documents import date
from store.reads.snapshot import load_rooms
from store.writes import settle
from store.writes.expiry import EXPIRES, erase_after, erase_due
from tests.contract.stores import AT, DAY, Store, apply_batch, created, remove, room, rotate, settle_batch

EXPIRED, LATER = date(AT - 1), date(AT + DAY)
PREVIOUS = {"prevPriv": b"p" * 32, "prevVer": 1}


def past(*entries: tuple[int, Any]) -> list[Document]:
    return [{"ver": version, "priv": b"p" * 32, "until": until} for version, until in entries]


async def rooms(store: Store, *documents: Document) -> None:
    await store.database["rooms"].insert_many(list(documents))


def rotated(*entries: tuple[int, Any], **more: Any) -> Document:
    """Return `keyRotation` with these replaced keys, as settle leaves it."""
    return {"past": past(*entries), "expires": min(until for _, until in entries), **more}


async def test_expired_keys_go_and_the_others_stay(store: Store) -> None:
    current = {"ver": 3, "priv": b"c" * 32}
    more = {"high": 4, "settled": 3, "current": current, "staged": {"ver": 4, "priv": b"s" * 32}}
    await rooms(
        store,
        {
            "_id": "r1",
            "encKey": {**current, **PREVIOUS, "prevExpiresAt": EXPIRED},
            "keyRotation": rotated((0, EXPIRED), (1, date(AT)), (2, LATER), **more),
        },
        {
            "_id": "r2",
            "encKey": {**current, **PREVIOUS, "prevExpiresAt": LATER},
            "keyRotation": rotated((0, EXPIRED), (2, LATER), **more),
        },
        {"_id": "r3", "encKey": current, "keyRotation": rotated((0, EXPIRED))},
        {"_id": "r4", "encKey": current},
    )
    assert await erase_due(store.database, AT, 10) == 4
    kept = {**more, "past": past((2, LATER)), "expires": LATER}
    assert await room(store, "r1") == {"_id": "r1", "encKey": current, "keyRotation": kept}
    in_use = {**current, **PREVIOUS, "prevExpiresAt": LATER}
    assert await room(store, "r2") == {"_id": "r2", "encKey": in_use, "keyRotation": kept}
    assert (await room(store, "r3"))["keyRotation"] == {"past": []}
    assert await erase_due(store.database, AT, 10) == 0


async def test_a_look_is_one_query_over_the_index(store: Store) -> None:
    await rooms(store, *({"_id": f"r{n}", "keyRotation": rotated((0, LATER))} for n in range(100)))
    store.commands.take()
    assert await erase_due(store.database, AT, 10) == 0
    assert store.commands.take() == {"find rooms": 1}
    query = {"find": "rooms", "filter": {EXPIRES: {"$lte": date(AT)}}, "hint": {EXPIRES: 1}}
    plan = await store.database.db.command({"explain": query, "verbosity": "executionStats"})
    assert plan["executionStats"]["totalDocsExamined"] == 0


async def test_many_rooms_are_erased_some_at_a_time(store: Store) -> None:
    await rooms(store, *({"_id": f"r{n:02}", "keyRotation": rotated((0, EXPIRED))} for n in range(25)))
    assert [await erase_due(store.database, AT, 10) for _ in range(4)] == [10, 10, 5, 0]


async def test_without_the_index_no_collection_is_read(store: Store) -> None:
    await store.database["rooms"].drop_index(f"{EXPIRES}_1")
    with pytest.raises(Refused):
        await erase_due(store.database, AT, 10)


async def test_slow_pass_erases_what_has_no_note_some_rooms_at_a_time(store: Store) -> None:
    await rooms(
        store, *({"_id": f"r{n:02}", "keyRotation": {"past": past((0, EXPIRED), (1, LATER))}} for n in range(7))
    )
    await rooms(store, {"_id": "s", "encKey": {"ver": 1, **PREVIOUS, "prevExpiresAt": EXPIRED}})
    after, seen = "", list[str]()
    while not seen or after:
        store.commands.take()
        after = await erase_after(store.database, AT, after, 3)
        seen.append(after)
        assert store.commands.take() == {"find rooms": 1, "update rooms": 1}
    assert seen == ["r02", "r05", ""]
    for number in range(7):
        assert (await room(store, f"r{number:02}"))["keyRotation"] == rotated((1, LATER))
    assert (await room(store, "s"))["encKey"] == {"ver": 1}


@pytest.mark.parametrize(
    "odd",
    [
        {"keyRotation": {"past": {"until": EXPIRED}, "expires": EXPIRED}},
        {"keyRotation": {"past": [[{"until": EXPIRED}]], "expires": EXPIRED}},
        {"keyRotation": {"past": [{"until": [EXPIRED]}, 7, None, {"until": "x"}], "expires": EXPIRED}},
        {"keyRotation": {"past": "x", "expires": [EXPIRED]}},
        {"keyRotation": {"expires": EXPIRED}},
        {"keyRotation": [{"past": [{"until": EXPIRED}], "expires": EXPIRED}]},
        {"keyRotation": rotated((0, EXPIRED)), "encKey": [{"prevExpiresAt": EXPIRED}]},
        {"keyRotation": rotated((0, EXPIRED)), "encKey": "x"},
        {"keyRotation": rotated((0, EXPIRED)), "encKey": {"prevExpiresAt": [EXPIRED]}},
    ],
)
async def test_document_of_another_shape_keeps_no_other_room_waiting(store: Store, odd: Document) -> None:
    for id_, document in {"a": odd, "b": {"keyRotation": rotated((0, EXPIRED))}, "c": odd}.items():
        await rooms(store, {"_id": id_, **document})
    while await erase_due(store.database, AT, 1):
        pass
    assert (await room(store, "b"))["keyRotation"]["past"] == []
    await rooms(store, {"_id": "d", "keyRotation": {"past": past((0, EXPIRED))}})
    assert await erase_after(store.database, AT, "", 10) == ""
    assert (await room(store, "d"))["keyRotation"]["past"] == []


async def test_settle_notes_when_the_first_replaced_key_expires(store: Store) -> None:
    lease, position = await created(store, "bob")
    assert "expires" not in (await room(store))["keyRotation"]
    for number in (2, 3):
        applied = await apply_batch(store, lease, position, [rotate(number, "r1")])
        await settle_batch(store, lease, applied, now=AT + number)
        position = applied.position
    assert (await room(store))["keyRotation"]["expires"] == date(AT + 2 + DAY)
    await erase_due(store.database, AT + 2 + DAY, 10)
    found = (await room(store))["keyRotation"]
    assert (found["expires"], [entry["ver"] for entry in found["past"]]) == (date(AT + 3 + DAY), [1])


async def test_erasure_between_the_look_and_the_write_of_settle_is_a_conflict(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, position = await created(store, "bob")
    applied = await apply_batch(store, lease, position, [rotate(2, "r1")])
    await settle_batch(store, lease, applied, grace_ms=10)
    position = applied.position
    applied = await apply_batch(store, lease, position, [remove(3, "r1", "bob")])
    unchanged = settle._is_unchanged

    def meanwhile(found: Document, record: Any) -> bool:
        with MongoClient[Document](store.uri) as other:
            erased = {"$pull": {"keyRotation.past": {"until": {"$lte": date(AT + 20)}}}}
            assert other[store.name].rooms.update_one({"_id": "r1"}, erased).modified_count == 1
        return unchanged(found, record)

    with monkeypatch.context() as patched:
        patched.setattr(settle, "_is_unchanged", meanwhile)
        with pytest.raises(WriteConflict):
            await settle_batch(store, lease, applied)
    await settle_batch(store, lease, applied)
    found = await room(store)
    assert found["encKey"]["ver"] == found["keyRotation"]["settled"] == 2
    assert [entry["ver"] for entry in found["keyRotation"]["past"]] == [1]


async def test_erasure_that_arrives_after_the_next_settle_removes_nothing_of_it(store: Store) -> None:
    """A replica that was stopped for an hour erases by the time that it took with it."""
    lease, position = await created(store, "bob")
    applied = await apply_batch(store, lease, position, [rotate(2, "r1")])
    await settle_batch(store, lease, applied, grace_ms=10)
    applied = await apply_batch(store, lease, applied.position, [remove(3, "r1", "bob")], now=AT + 15)
    await settle_batch(store, lease, applied, now=AT + 15)
    before = await room(store)
    await erase_due(store.database, AT + 20, 10)
    await erase_after(store.database, AT + 20, "", 10)
    after = await room(store)
    before["keyRotation"]["expires"] = date(AT + 15 + DAY)  # apply had removed the expired key
    assert after == before
    (stored,) = (await load_rooms(store.database, ["r1"], lease.session)).values()
    assert stored.keys.current == applied.staged["r1"]
    assert before["encKey"]["prevExpiresAt"] == datetime.fromtimestamp((AT + 15 + DAY) / 1000, UTC)
