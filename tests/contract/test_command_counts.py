"""The number of commands of a batch is a constant and does not depend on its events."""

from collections import Counter

import pytest

from roomkeys.events.event import AnyEvent
from store.writes import outbox
from tests.contract.stores import Store, add, apply_batch, create, created, event, remove, rotate, settle_batch


def one_of(kind: str, sequence: int, room_id: str, people: list[str]) -> AnyEvent:
    match kind:
        case "removals":
            return remove(sequence, room_id, people[0])
        case "adds":
            return add(sequence, room_id, "new")
        case _:
            return create(sequence, room_id, *people)


@pytest.mark.parametrize("kind", ["removals", "adds", "creates"])
async def test_number_of_commands_does_not_depend_on_batch_size(store: Store, kind: str) -> None:
    people = [f"p{number}" for number in range(9)]
    await store.people("alice", *people, "new")
    lease, position = await store.lease()
    seen = {}
    sequence = 0
    for size in (1, 10, 256):
        rooms = [f"{size}-{number}" for number in range(size)]
        if kind != "creates":
            made = [create(sequence := sequence + 1, room_id, *people) for room_id in rooms]
            applied = await apply_batch(store, lease, position, made)
            await settle_batch(store, lease, applied)
            position = applied.position
        events = [one_of(kind, sequence := sequence + 1, room_id, people) for room_id in rooms]
        store.commands.take()
        applied = await apply_batch(store, lease, position, events, finished_ids=["nothing"])
        await settle_batch(store, lease, applied)
        seen[size] = store.commands.take()
        position = applied.position
    report = {size: (commands.total(), sorted(commands.items())) for size, commands in seen.items()}
    assert len({commands.total() for commands in seen.values()}) == 1, report


async def test_number_of_commands_of_a_mixed_batch_does_not_depend_on_its_size(store: Store) -> None:
    await store.people("alice", "bob", "carol")
    await store.people("sam", "sue", sectId="s1")
    lease, position = await store.lease()
    seen = {}
    sequence = 0
    for size in (2, 40):
        rooms = [f"{size}-{number}" for number in range(size)]
        made = [create(sequence := sequence + 1, room_id, "bob", "carol") for room_id in rooms]
        made += [create(sequence := sequence + 1, f"o{room_id}", "bob", orgs=["s1"]) for room_id in rooms]
        applied = await apply_batch(store, lease, position, made)
        await settle_batch(store, lease, applied)
        events = []
        for room_id in rooms:
            events += [
                remove(sequence := sequence + 1, room_id, "bob"),
                add(sequence := sequence + 1, room_id, "sam", orgs=["s1"]),
                remove(sequence := sequence + 1, f"o{room_id}", "bob"),
                event(sequence := sequence + 1, "member.remove", roomId=f"o{room_id}", requester="alice", orgId="s1"),
                create(sequence := sequence + 1, f"d{room_id}", "bob", name=""),
                create(sequence := sequence + 1, f"c{room_id}", "bob", orgs=["s1"]),
                rotate(sequence := sequence + 1, room_id),
            ]
        store.commands.take()
        applied = await apply_batch(store, lease, applied.position, events)
        await settle_batch(store, lease, applied)
        seen[size] = store.commands.take()
        position = applied.position
    report = {size: (commands.total(), sorted(commands.items())) for size, commands in seen.items()}
    assert len({commands.total() for commands in seen.values()}) == 1, report


async def test_settling_no_room_sends_no_command(store: Store) -> None:
    lease, position = await created(store, "bob", "carol")
    applied = await apply_batch(store, lease, position, [add(2, "r1", "bob")])
    store.commands.take()
    await settle_batch(store, lease, applied)
    assert store.commands.take() == Counter()


async def test_deleting_no_entry_sends_no_command(store: Store) -> None:
    lease, _ = await store.lease()
    store.commands.take()
    await outbox.delete_finished(store.database, lease, [])
    assert store.commands.take() == Counter()
