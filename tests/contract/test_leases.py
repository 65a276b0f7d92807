"""Leases and cursors: taking, moving, releasing, and the fence."""

import asyncio
import time
from dataclasses import replace

import pytest

from roomkeys.errors import LeaseLost, TransientError
from roomkeys.events.position import StreamPosition
from store.leases.lease import (
    PartitionsMismatch,
    ensure_cursors,
    fence,
    move_cursor,
    read_cursors,
    read_position,
    release_lease,
    take_lease,
)
from tests.contract.stores import SITE, START, Store, apply_batch, begun, create, created, remove, settle_batch


async def test_site_begins_at_the_position_of_its_first_start(store: Store) -> None:
    await ensure_cursors(store.database, SITE, 2, StreamPosition(5, 6, 7))
    await ensure_cursors(store.database, SITE, 2, StreamPosition(50, 60, 70))
    found = await read_cursors(store.database, SITE)
    assert [(item["partition"], read_position(item)) for item in found] == [
        (0, StreamPosition(5, 6, 7)),
        (1, StreamPosition(5, 6, 7)),
    ]
    with pytest.raises(PartitionsMismatch) as caught:
        await ensure_cursors(store.database, SITE, 3, START)
    assert caught.value.stored == 2


async def test_take_increments_the_epoch_and_stores_owner_and_session(store: Store) -> None:
    first, position = await store.lease("one")
    second, _ = await store.lease("two")
    assert (first.epoch, second.epoch, position) == (1, 2, START)
    document = (await store.cursors())[0]
    assert (document["owner"], document["epoch"]) == ("two", 2)
    assert bytes(document["session"]) == bytes(second.session.session_id["id"])


async def test_one_of_several_simultaneous_takes_succeeds(store: Store) -> None:
    seen = (await store.cursors())[0]
    takes = (take_lease(store.database, seen, owner) for owner in ("one", "two", "three"))
    outcomes = await asyncio.gather(*takes, return_exceptions=True)
    lost = [outcome for outcome in outcomes if isinstance(outcome, LeaseLost)]
    assert len(lost) == 2, outcomes
    assert (await store.cursors())[0]["epoch"] == 1


async def test_released_partition_has_no_owner_and_its_lease_is_lost(store: Store) -> None:
    lease, position = await store.lease()
    await release_lease(store.database, lease)
    document = (await store.cursors())[0]
    assert (document["owner"], document["session"]) == (None, None)
    with pytest.raises(LeaseLost):
        await move_cursor(store.database, lease, position, StreamPosition(1, 1, 17))


async def test_release_of_a_lost_lease_does_not_affect_the_new_owner(store: Store) -> None:
    stale, _ = await store.lease("one")
    await store.lease("two")
    await release_lease(store.database, stale)
    assert (await store.cursors())[0]["owner"] == "two"


async def test_cursor_moves_in_both_directions_but_only_from_its_position(store: Store) -> None:
    lease, position = await store.lease()
    ahead, rebased = StreamPosition(90, 900, 17), StreamPosition(3, 900, 18)
    await move_cursor(store.database, lease, position, ahead)
    await move_cursor(store.database, lease, ahead, rebased)
    assert read_position((await store.cursors())[0]) == rebased
    with pytest.raises(LeaseLost):
        await move_cursor(store.database, lease, ahead, StreamPosition(91, 901, 17))
    assert read_position((await store.cursors())[0]) == rebased


async def test_apply_under_a_lost_lease_writes_nothing(store: Store) -> None:
    stale, position = await created(store, "bob", "carol")
    await store.lease("two")
    before = await store.everything()
    with pytest.raises(LeaseLost):
        await apply_batch(store, stale, position, [remove(2, "r1", "bob"), create(3, "r2", "bob", orgs=["s1"])])
    assert await store.everything() == before


async def test_settle_under_a_lost_lease_writes_nothing(store: Store) -> None:
    stale, position = await created(store, "bob", "carol")
    applied = await apply_batch(store, stale, position, [remove(2, "r1", "bob")])
    await store.lease("two")
    before = await store.everything()
    with pytest.raises(LeaseLost):
        await settle_batch(store, stale, applied)
    assert await store.everything() == before


async def test_batch_cannot_be_applied_twice(store: Store) -> None:
    lease, position = await created(store, "bob", "carol")
    await apply_batch(store, lease, position, [remove(2, "r1", "bob")])
    before = await store.everything()
    with pytest.raises(LeaseLost):
        await apply_batch(store, lease, position, [remove(2, "r1", "carol")])
    assert await store.everything() == before


async def test_open_transaction_of_a_dead_owner_does_not_delay_the_next_owner(store: Store) -> None:
    dead, position = await created(store, "bob")
    document = (await store.cursors())[0]
    async with store.another() as other:
        with pytest.raises(TransientError):  # noqa: PT012 - the commit at the end is what fails
            async with begun(store.database, dead.session, fence(dead, position, replace(position, sequence=99))):
                since = time.monotonic()
                lease, found = await take_lease(other.database, document, "two")
                took = time.monotonic() - since
        assert took < 5, f"{took:.1f} s"
        assert (lease.epoch, found) == (2, position), "the dead owner's transaction has been committed"
        await move_cursor(other.database, lease, found, replace(found, sequence=2))
