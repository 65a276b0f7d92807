"""The outbox: entries come back as they were written, in order, to their own partition only."""

from dataclasses import replace

import pytest

from roomkeys.decisions.decision import DeadLetter, MembersNotice, OutboxEntry, Outcome
from roomkeys.errors import ErrorInfo, LeaseLost
from roomkeys.membership import Member, Membership
from roomkeys.subjects import Operation
from store.database import Database
from store.leases.lease import Lease
from store.writes import outbox
from store.writes.outbox import StoredEntry
from tests.contract.stores import AT, SITE, START, Store, apply_batch, create, created, remove


def entries_of_every_kind() -> list[OutboxEntry]:
    membership = Membership(
        id="0" * 32,
        user_id="u1",
        account="alice",
        room_id="r1",
        site=SITE,
        roles=("owner",),
        name='n"\x00\n',
        kind="channel",
        joined_ms=AT,
        subscribed=True,
        history_from_ms=AT,
        title="\u7c73",
    )
    dm = replace(membership, roles=None, kind="dm", subscribed=False, history_from_ms=None, title="")
    added = MembersNotice("member_added", "room", "channel", joined_ms=AT, history_from_ms=AT)
    removed = MembersNotice("member_removed", org="s1")
    plain = Outcome(1, Operation.CREATE, AT, "r1", "alice", "id", SITE)
    outcomes = (
        plain,
        replace(plain, sequence=2**53, operation=Operation.ADD, added=(membership, dm), notice=added),
        replace(plain, operation=Operation.REMOVE, removed=(Member("m", "u", "x", None),), notice=removed),
        replace(plain, operation=Operation.REMOVE_ORG, removed=(Member("m", "u", "x", ("a", "b")),)),
        replace(plain, operation=Operation.ROTATE, request_id=None, requester=None),
    )
    letter = DeadLetter("chat.\ufffd.\x00", b"\x00\xff not json")
    invalid = Outcome(9, Operation.ADD, AT, error=ErrorInfo("internal", "internal", "a text"), letter=letter)
    return [
        OutboxEntry("r1", outcomes, ("alice", "bob"), 2**40),
        OutboxEntry(None, (invalid,)),
        OutboxEntry("r2", (replace(plain, room_id="r2"),), (), 0),
        OutboxEntry("r3", ()),
    ]


async def read_unfinished(database: Database, lease: Lease) -> list[StoredEntry]:
    return [entry async for some in outbox.unfinished(database, lease, 32) for entry in some]


async def test_entries_are_read_back_unchanged_and_in_order(store: Store) -> None:
    lease, position = await store.lease()
    wanted = []
    for sequence in (9, 10, 100):
        entries = outbox.stored_entries(lease, entries_of_every_kind(), sequence, START)
        documents = [outbox.entry_document(entry) for entry in entries]
        await store.database[outbox.OUTBOX].insert_many(documents[::-1])
        wanted += entries
    assert await read_unfinished(store.database, lease) == wanted
    rooms = sorted({entry.content.room_id for entry in wanted if entry.content.room_id is not None})
    assert await outbox.unfinished_rooms(store.database, SITE) == rooms
    assert await outbox.unfinished_rooms(store.database, SITE[:-1]) == []
    await outbox.delete_finished(store.database, lease, [entry.id for entry in wanted[:3]])
    assert await read_unfinished(store.database, lease) == wanted[3:]
    assert position == START


async def test_finished_entries_are_deleted_with_the_next_batch(store: Store) -> None:
    lease, position = await created(store, "bob", "carol")
    (entry,) = await read_unfinished(store.database, lease)
    applied = await apply_batch(store, lease, position, [remove(2, "r1", "bob")], finished_ids=[entry.id])
    assert await read_unfinished(store.database, lease) == applied.entries


async def test_only_the_owner_deletes_finished_entries(store: Store) -> None:
    """The next owner may have sent a part of an entry, and finds the rest only in the outbox."""
    lease, position = await store.lease()
    await apply_batch(store, lease, position, [create(1, "r1", "bob")])
    wanted = await read_unfinished(store.database, lease)
    after, _ = await store.lease("another")
    with pytest.raises(LeaseLost):
        await outbox.delete_finished(store.database, lease, [entry.id for entry in wanted])
    assert await read_unfinished(store.database, after) == wanted != []


async def test_partition_reads_only_its_own_entries(store: Store) -> None:
    """Sites may share a database, and the name of a site may be any token, for example with a colon."""
    lease, _ = await store.lease()
    foreign = []
    for site, partition in (("site-a", 1), ("site-a", 10), ("site", 0), ("site-a:0", 1)):
        other = replace(lease, site=site, partition=partition)
        entries = outbox.stored_entries(other, entries_of_every_kind(), 1, START)
        await store.database[outbox.OUTBOX].insert_many([outbox.entry_document(entry) for entry in entries])
        assert await read_unfinished(store.database, other) == entries
        foreign += [entry.id for entry in await read_unfinished(store.database, lease)]
    assert foreign == []
