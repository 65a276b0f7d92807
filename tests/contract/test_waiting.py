"""Events of set-aside rooms: kept in order, read back by the next owner, and rehearsed without a trace."""

from dataclasses import replace

import pytest

from roomkeys.errors import LeaseLost, Refused
from roomkeys.events.event import AnyEvent
from roomkeys.events.position import StreamPosition
from store.leases.lease import read_cursors, take_lease
from store.writes.waiting import (
    SetAsideRoom,
    StoredWaiting,
    note_try,
    read_waiting,
    set_aside,
    set_aside_rooms,
    waiting_id,
)
from tests.contract.stores import AT, Store, add, create, remove, rotate
from worker.pipeline.failures.control import rehearse_twin

EVENTS = {
    "create": create(2, "r1", "bob", orgs=["s1"]),
    "add": add(2, "r1", "bob", orgs=["s1"]),
    "remove": remove(2, "r1", "bob"),
    "rotate": rotate(2, "r1"),
}


def moved(position: StreamPosition, sequence: int) -> StreamPosition:
    return replace(position, sequence=sequence)


async def test_events_wait_in_order_and_the_next_owner_reads_them_back(store: Store) -> None:
    lease, position = await store.lease()
    old = [StoredWaiting(waiting_id(lease, number), "r1", rotate(number, "r1").origin) for number in (9, 10)]
    await set_aside(store.database, lease, position, moved(position, 10), old)
    await note_try(store.database, lease, moved(position, 10), replace(old[0], tries=3, failures=2))
    (cursor,) = [one for one in await read_cursors(store.database, lease.site) if one["partition"] == 0]
    taken, position = await take_lease(store.database, cursor, "two")
    assert position.sequence == 10
    # A stream that was created again counts from 1, and its events come after those of the old one.
    new = StoredWaiting(waiting_id(taken, 1), "r1", rotate(1, "r1").origin)
    await set_aside(store.database, taken, position, moved(position, 11), [new])
    assert await read_waiting(store.database, taken) == [replace(old[0], tries=3, failures=2), old[1], new]
    other, _ = await store.lease(partition=1)
    assert await read_waiting(store.database, other) == []
    assert await set_aside_rooms(store.database, lease.site) == [SetAsideRoom("r1", 3, 2)]
    assert await set_aside_rooms(store.database, "another") == []


async def test_owner_without_the_lease_sets_nothing_aside(store: Store) -> None:
    lease, position = await store.lease()
    waiting = StoredWaiting(waiting_id(lease, 1), "r1", rotate(1, "r1").origin)
    await set_aside(store.database, lease, position, moved(position, 1), [waiting])
    with pytest.raises(LeaseLost):  # the cursor is no longer there
        await set_aside(store.database, lease, position, moved(position, 1), [])
    with pytest.raises(LeaseLost):  # this event does not wait
        await note_try(store.database, lease, moved(position, 1), replace(waiting, id=waiting_id(lease, 7)))


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
async def test_rehearsal_of_an_event_leaves_no_trace(store: Store, event: AnyEvent) -> None:
    lease, _ = await store.lease()
    await store.people("alice", "bob")
    before = await store.everything()
    await rehearse_twin(store.database, lease, event, AT)
    assert await store.everything() == before


@pytest.mark.parametrize(
    ("collection", "refused"),
    [
        ("room_worker_outbox", set(EVENTS)),
        ("rooms", {"create"}),
        ("subscriptions", {"create", "add"}),
        ("room_members", {"create", "add"}),
    ],
)
async def test_rehearsal_is_refused_where_every_such_event_would_be(
    store: Store, collection: str, refused: set[str]
) -> None:
    lease, _ = await store.lease()
    await store.database.db.command({"collMod": collection, "validator": {"never": True}})
    for name, event in EVENTS.items():
        if name in refused:
            with pytest.raises(Refused):
                await rehearse_twin(store.database, lease, event, AT)
        else:
            await rehearse_twin(store.database, lease, event, AT)
