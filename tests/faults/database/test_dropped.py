"""Collections, indexes or the database dropped under a running worker: written again, or named."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from store.setup.indexes import INDEXES
from tests.faults.takeover.test_replicas import CREATE
from tests.harness import events
from tests.harness.health import until_not_ready, until_ready
from tests.harness.polling import until, until_answered
from tests.harness.processes import child, ends_well
from tests.harness.site import Rig, rig
from worker.local.ports import free_port

ROOMS = [f"r{number}" for number in range(16)]
ROTATE = events.rotate("r1")


@pytest.fixture
async def droppable(nats_url: str, mongo_uri: str, new_database: str, site: str) -> AsyncIterator[Rig]:
    async with rig(nats_url, mongo_uri, new_database, site) as made:
        made.limit(lease_ms=2_000, ensure_s=0.2)
        await made.users("alice", "bob", "carol")
        yield made


async def create_all(made: Rig) -> None:
    for request_id in [await made.publish("create", {**CREATE, "roomId": room}) for room in ROOMS]:
        assert (await made.result(request_id))["status"] == "ok"


async def outbox_is_empty(made: Rig) -> bool:
    return await made.db.room_worker_outbox.find_one({}) is None


async def index_keys(made: Rig, collection: str) -> set[tuple[str, ...]]:
    found = await made.db[collection].index_information()
    return {tuple(name for name, _ in index["key"]) for index in found.values()}


async def until_indexed(made: Rig) -> None:
    """Wait until every index exists."""

    async def is_indexed() -> bool:
        return all([index.fields in await index_keys(made, index.collection) for index in INDEXES])

    await until_answered(is_indexed)


async def test_cursors_that_were_dropped_are_written_again_where_their_owners_were(droppable: Rig) -> None:
    async with droppable.worker(), droppable.worker():
        await droppable.until_owned()
        await create_all(droppable)
        await until_answered(lambda: outbox_is_empty(droppable))
        before = len(droppable.received)
        await droppable.db.room_worker_cursors.drop()
        for room in ROOMS:
            removed = await droppable.ask("member.remove", events.remove(room, account="bob"))
            assert removed["status"] == "ok"
    again = [item for item in droppable.received[before:] if item.body.get("operation") == "room.create"]
    assert again == [], "no event before the cursor was applied again"
    assert {version for version, _ in droppable.keys("alice")} == {0, 1}


async def test_whole_database_that_was_dropped_is_made_again(droppable: Rig) -> None:
    async with droppable.worker():
        await droppable.until_owned()
        await create_all(droppable)
        await droppable.db.client.drop_database(droppable.db.name)
        await droppable.users("alice", "bob", "carol")
        await until_indexed(droppable)
        created = await droppable.ask("create", {**CREATE, "roomId": "another"})
        assert created["status"] == "ok"
        assert (await droppable.ask("key.rotate", events.rotate("another")))["status"] == "ok"


async def test_index_that_was_dropped_is_created_again(droppable: Rig) -> None:
    async with droppable.worker():
        await droppable.until_owned()
        for collection in {index.collection for index in INDEXES}:
            await droppable.db[collection].drop_indexes()
        await until_indexed(droppable)


async def test_index_that_cannot_be_unique_again_is_named(droppable: Rig, tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with child(droppable, log, LOG_LEVEL="warning") as worker:
        await droppable.ask("create", CREATE)
        await droppable.db.subscriptions.drop_indexes()
        twin = await droppable.db.subscriptions.find_one({"u.account": "bob"})
        await droppable.db.subscriptions.insert_one({**twin, "_id": "twin"})
        await until(lambda: "no unique index on (roomId, u.account)" in log.read_text(), log.read_text)
        await ends_well(worker)


async def test_cursor_that_no_replica_knows_is_named_and_not_replaced_by_an_old_one(droppable: Rig) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with droppable.worker():
        await create_all(droppable)
    cursor = await droppable.db.room_worker_cursors.find_one_and_delete({"partition": 3})
    async with droppable.worker(health_addr=address):
        await until_not_ready(address, "the cursors of the partitions 3 are missing")
        await droppable.db.room_worker_cursors.insert_one(cursor)
        await until_ready(address)
        assert (await droppable.ask("key.rotate", ROTATE))["status"] == "ok"


async def test_site_without_cursors_begins_again_when_its_document_allows_it(droppable: Rig) -> None:
    async with droppable.worker():
        await create_all(droppable)
    await droppable.db.room_worker_cursors.drop()
    await droppable.db.room_worker_sites.update_one({"_id": droppable.site}, {"$unset": {"cursorsCreated": 1}})
    async with droppable.worker():
        await droppable.until_owned()
        async with asyncio.timeout(20):
            assert (await droppable.ask("key.rotate", ROTATE))["status"] == "ok"
