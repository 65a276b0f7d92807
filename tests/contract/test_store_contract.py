"""What every store driver has to do: one body of tests over both."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from pymongo import MongoClient

from roomkeys.decisions.decision import DeadLetter, MembersNotice, OutboxEntry, Outcome
from roomkeys.errors import ErrorInfo, LeaseLost, TransientError, WriteConflict
from roomkeys.events.event import AnyEvent
from roomkeys.events.position import StreamPosition
from roomkeys.keys import KeyRecord
from roomkeys.membership import Member, Membership
from roomkeys.subjects import Operation
from store.database import Database, Document, Driver
from store.leases.lease import (
    Lease,
    PartitionsMismatch,
    ensure_cursors,
    fence,
    move_cursor,
    read_cursors,
    read_position,
    release_lease,
    take_lease,
)
from store.reads import members
from store.reads.batch_query import batch_pipeline
from store.reads.snapshot import load_batch, load_rooms
from store.writes import outbox, settle
from store.writes.outbox import StoredEntry
from store.writes.settle import PAST_KEYS
from tests.contract.stores import AT, DAY, SITE, START, Store, apply_batch, begun, event, opened, settle_batch

Pages = list[dict[str, list[Any]]]


@pytest.fixture(params=get_args(Driver))
async def store(request: pytest.FixtureRequest, mongo_uri: str, database: str) -> AsyncIterator[Store]:
    async with opened(mongo_uri, database, request.param) as made:
        yield made


def create(sequence: int, room_id: str, *users: str, **fields: Any) -> AnyEvent:
    body = {"roomId": room_id, "name": f"name of {room_id}", "users": users, "requesterAccount": "alice"}
    return event(sequence, "create", **{**body, **fields})


def remove(sequence: int, room_id: str, account: str) -> AnyEvent:
    return event(sequence, "member.remove", roomId=room_id, requester="alice", account=account)


def add(sequence: int, room_id: str, *users: str, **fields: Any) -> AnyEvent:
    return event(sequence, "member.add", roomId=room_id, requesterAccount="alice", users=users, **fields)


def rotate(sequence: int, room_id: str) -> AnyEvent:
    return event(sequence, "key.rotate", roomId=room_id, requester="alice")


async def founded(store: Store, *users: str, room_id: str = "r1") -> tuple[Any, StreamPosition]:
    """Return a lease and the place after the creation of a settled room."""
    await store.people("alice", *users)
    lease, place = await store.lease()
    applied = await apply_batch(store, lease, place, [create(1, room_id, *users)])
    await settle_batch(store, lease, applied)
    return lease, applied.place


async def room(store: Store, room_id: str = "r1") -> dict[str, Any]:
    (found,) = await store.database.find("rooms", {"_id": room_id}, {})
    return found


# Leases and cursors


async def test_a_site_begins_at_the_given_place_and_only_once(store: Store) -> None:
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


async def test_a_lease_raises_the_epoch_and_names_owner_and_session(store: Store) -> None:
    first, place = await store.lease("one")
    second, _ = await store.lease("two")
    assert (first.epoch, second.epoch, place) == (1, 2, START)
    document = (await store.cursors())[0]
    assert (document["owner"], document["epoch"]) == ("two", 2)
    assert bytes(document["session"]) == bytes(second.session.session_id["id"])


async def test_of_two_who_take_at_once_one_wins(store: Store) -> None:
    seen = (await store.cursors())[0]
    takes = (take_lease(store.database, seen, owner) for owner in ("one", "two", "three"))
    outcomes = await asyncio.gather(*takes, return_exceptions=True)
    lost = [outcome for outcome in outcomes if isinstance(outcome, LeaseLost)]
    assert len(lost) == 2, outcomes
    assert (await store.cursors())[0]["epoch"] == 1


async def test_a_released_partition_has_no_owner_and_its_lease_is_over(store: Store) -> None:
    lease, place = await store.lease()
    await release_lease(store.database, lease)
    document = (await store.cursors())[0]
    assert (document["owner"], document["session"]) == (None, None)
    with pytest.raises(LeaseLost):
        await move_cursor(store.database, lease, place, StreamPosition(1, 1, 17))


async def test_a_stale_release_does_not_take_the_partition_from_its_new_owner(store: Store) -> None:
    stale, _ = await store.lease("one")
    await store.lease("two")
    await release_lease(store.database, stale)
    assert (await store.cursors())[0]["owner"] == "two"


async def test_a_cursor_moves_both_ways_but_only_from_where_it_is(store: Store) -> None:
    lease, place = await store.lease()
    ahead, rebased = StreamPosition(90, 900, 17), StreamPosition(3, 900, 18)
    await move_cursor(store.database, lease, place, ahead)
    await move_cursor(store.database, lease, ahead, rebased)
    assert read_position((await store.cursors())[0]) == rebased
    with pytest.raises(LeaseLost):
        await move_cursor(store.database, lease, ahead, StreamPosition(91, 901, 17))
    assert read_position((await store.cursors())[0]) == rebased


async def test_a_stale_lease_cannot_apply_and_writes_nothing(store: Store) -> None:
    stale, place = await founded(store, "bob", "carol")
    await store.lease("two")
    before = await store.everything()
    with pytest.raises(LeaseLost):
        await apply_batch(store, stale, place, [remove(2, "r1", "bob"), create(3, "r2", "bob", orgs=["s1"])])
    assert await store.everything() == before


async def test_a_stale_lease_cannot_settle_and_writes_nothing(store: Store) -> None:
    stale, place = await founded(store, "bob", "carol")
    applied = await apply_batch(store, stale, place, [remove(2, "r1", "bob")])
    await store.lease("two")
    before = await store.everything()
    with pytest.raises(LeaseLost):
        await settle_batch(store, stale, applied)
    assert await store.everything() == before


async def test_a_batch_cannot_be_applied_twice(store: Store) -> None:
    lease, place = await founded(store, "bob", "carol")
    await apply_batch(store, lease, place, [remove(2, "r1", "bob")])
    before = await store.everything()
    with pytest.raises(LeaseLost):
        await apply_batch(store, lease, place, [remove(2, "r1", "carol")])
    assert await store.everything() == before


async def test_a_dead_owners_open_transaction_does_not_hold_up_the_next_owner(store: Store) -> None:
    dead, place = await founded(store, "bob")
    document = (await store.cursors())[0]
    async with store.another() as other:
        with pytest.raises(TransientError):  # noqa: PT012 - the commit at the end is what fails
            async with begun(store.database, dead.session, fence(dead, place, replace(place, sequence=99))):
                since = time.monotonic()
                lease, found = await take_lease(other.database, document, "two")
                took = time.monotonic() - since
        assert took < 5, f"{took:.1f} s"
        assert (lease.epoch, found) == (2, place), "the dead owner's transaction left something"
        await move_cursor(other.database, lease, found, replace(found, sequence=2))


# Apply and settle


async def test_a_rooms_life_round_trips(store: Store) -> None:
    lease, place = await founded(store, "bob", "carol")
    first = (await room(store))["encKey"]
    applied = await apply_batch(store, lease, place, [remove(2, "r1", "bob")])
    waiting = await room(store)
    assert waiting["encKey"] == first, "a staged key is not in use"
    assert (waiting["keyRotation"]["high"], waiting["keyRotation"]["settled"]) == (1, 0)
    (held,) = (await load_rooms(store.database, ["r1"], lease.session)).values()
    record = held.keys
    assert (record.staged, record.high, record.settled) == (applied.staged["r1"], 1, 0)
    await settle_batch(store, lease, applied)
    (held,) = (await load_rooms(store.database, ["r1"], lease.session)).values()
    record = held.keys
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


async def test_settling_twice_is_settling_once(store: Store) -> None:
    lease, place = await founded(store, "bob", "carol")
    applied = await apply_batch(store, lease, place, [remove(2, "r1", "bob")])
    await settle_batch(store, lease, applied)
    before = await room(store)
    with pytest.raises(TransientError):
        await settle_batch(store, lease, applied, now=AT + 5)
    assert await room(store) == before


async def test_a_key_put_in_use_by_another_program_after_the_look_is_a_conflict(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, place = await founded(store, "bob")
    applied = await apply_batch(store, lease, place, [rotate(2, "r1")])
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


async def test_a_key_put_in_use_by_another_program_before_the_look_is_not_lost(store: Store) -> None:
    """It is below the staged one, so that one follows it; members may ask for it until its grace is over."""
    lease, place = await founded(store, "bob")
    applied = await apply_batch(store, lease, place, [rotate(2, "r1"), rotate(3, "r1")])
    theirs = {"priv": bytes(32), "ver": 1}
    await store.database["rooms"].update_one({"_id": "r1"}, {"$set": {"encKey": theirs}})
    with pytest.raises(TransientError):
        await settle_batch(store, lease, applied)
    assert (await room(store))["encKey"] == theirs
    rooms = await load_rooms(store.database, ["r1"], lease.session)
    await settle.settle(
        store.database, lease, {"r1": rooms["r1"].keys}, {}, finished_ids=(), now_ms=AT, grace_ms=DAY
    )
    found = await room(store)
    assert (found["encKey"]["ver"], found["encKey"]["prevVer"]) == (2, 1)
    assert {key["ver"]: key["priv"] for key in found["keyRotation"]["past"]}[1] == bytes(32)


async def test_who_is_named_in_one_room_is_not_found_in_another(store: Store) -> None:
    """Many rooms are asked about at once, and the server answers for all accounts in all of them."""
    await store.members("r1", "alice", "bob")
    await store.members("r2", "alice", "bob")
    lease, _ = await store.lease()
    found = await load_batch(store.database, [remove(1, "r1", "bob"), rotate(2, "r2")], lease.session, page=16_384)
    members = {room_id: set(of_room) for room_id, of_room in found.members.items()}
    assert members == {"r1": {"alice", "bob"}, "r2": {"alice"}}


async def test_nothing_to_settle_is_no_command(store: Store) -> None:
    lease, place = await founded(store, "bob", "carol")
    applied = await apply_batch(store, lease, place, [add(2, "r1", "bob")])
    store.commands.take()
    await settle_batch(store, lease, applied)
    assert store.commands.take() == Counter()


async def test_past_keys_are_bounded_and_the_newest_stay(store: Store) -> None:
    lease, place = await founded(store, "bob", "carol")
    until = datetime.fromtimestamp((AT + DAY) / 1000, UTC)
    past = [{"ver": -number, "priv": b"p" * 32, "until": until} for number in range(PAST_KEYS + 50, 0, -1)]
    await store.database["rooms"].update_one({"_id": "r1"}, {"$set": {"keyRotation.past": past}})
    applied = await apply_batch(store, lease, place, [remove(2, "r1", "bob")])
    await settle_batch(store, lease, applied)
    kept = [key["ver"] for key in (await room(store))["keyRotation"]["past"]]
    assert kept == [*range(1 - PAST_KEYS, 0), 0], f"{len(kept)} kept, {kept[:3]} to {kept[-3:]}"


async def test_past_keys_go_once_they_have_expired(store: Store) -> None:
    lease, place = await founded(store, "bob", "carol")
    applied = await apply_batch(store, lease, place, [rotate(2, "r1")])
    await settle_batch(store, lease, applied, grace_ms=1_000)
    assert [key["ver"] for key in (await room(store))["keyRotation"]["past"]] == [0]
    applied = await apply_batch(store, lease, applied.place, [rotate(3, "r1")], now=AT + 1_001)
    await settle_batch(store, lease, applied, now=AT + 1_001)
    assert [key["ver"] for key in (await room(store))["keyRotation"]["past"]] == [1]


# Commands


def one_of(kind: str, sequence: int, room_id: str, people: list[str]) -> AnyEvent:
    match kind:
        case "removals":
            return remove(sequence, room_id, people[0])
        case "adds":
            return add(sequence, room_id, "new")
        case _:
            return create(sequence, room_id, *people)


@pytest.mark.parametrize("kind", ["removals", "adds", "creates"])
async def test_a_batch_costs_the_same_number_of_commands_whatever_its_size(store: Store, kind: str) -> None:
    people = [f"p{number}" for number in range(9)]
    await store.people("alice", *people, "new")
    lease, place = await store.lease()
    seen = {}
    sequence = 0
    for size in (1, 10, 256):
        rooms = [f"{size}-{number}" for number in range(size)]
        if kind != "creates":
            made = [create(sequence := sequence + 1, room_id, *people) for room_id in rooms]
            applied = await apply_batch(store, lease, place, made)
            await settle_batch(store, lease, applied)
            place = applied.place
        events = [one_of(kind, sequence := sequence + 1, room_id, people) for room_id in rooms]
        store.commands.take()
        applied = await apply_batch(store, lease, place, events, finished_ids=["nothing"])
        await settle_batch(store, lease, applied)
        seen[size] = store.commands.take()
        place = applied.place
    report = {size: (commands.total(), sorted(commands.items())) for size, commands in seen.items()}
    assert len({commands.total() for commands in seen.values()}) == 1, report


async def test_a_batch_of_every_kind_costs_the_same_commands_in_two_sizes(store: Store) -> None:
    await store.people("alice", "bob", "carol")
    await store.people("sam", "sue", sectId="s1")
    lease, place = await store.lease()
    seen = {}
    sequence = 0
    for size in (2, 40):
        rooms = [f"{size}-{number}" for number in range(size)]
        made = [create(sequence := sequence + 1, room_id, "bob", "carol") for room_id in rooms]
        made += [create(sequence := sequence + 1, f"o{room_id}", "bob", orgs=["s1"]) for room_id in rooms]
        applied = await apply_batch(store, lease, place, made)
        await settle_batch(store, lease, applied)
        events = []
        for room_id in rooms:
            events += [
                remove(sequence := sequence + 1, room_id, "bob"),
                add(sequence := sequence + 1, room_id, "sam", orgs=["s1"]),
                remove(sequence := sequence + 1, f"o{room_id}", "bob"),
                event(
                    sequence := sequence + 1, "member.remove", roomId=f"o{room_id}", requester="alice", orgId="s1"
                ),
                create(sequence := sequence + 1, f"d{room_id}", "bob", name=""),
                create(sequence := sequence + 1, f"c{room_id}", "bob", orgs=["s1"]),
                rotate(sequence := sequence + 1, room_id),
            ]
        store.commands.take()
        applied = await apply_batch(store, lease, applied.place, events)
        await settle_batch(store, lease, applied)
        seen[size] = store.commands.take()
        place = applied.place
    report = {size: (commands.total(), sorted(commands.items())) for size, commands in seen.items()}
    assert len({commands.total() for commands in seen.values()}) == 1, report


# Survivors


async def all_pages(
    store: Store, rooms: list[str], page: int, lease: Lease | None = None, first: int = 2_048
) -> Pages:
    lease = lease or (await store.lease())[0]
    return [found async for found in members.pages(store.database, lease, rooms, first=first, most=page)]


def together(pages: Pages) -> dict[str, list[Any]]:
    gathered: dict[str, list[Any]] = {}
    for page in pages:
        for room_id, accounts in page.items():
            gathered.setdefault(room_id, []).extend(accounts)
    return gathered


async def test_a_page_of_survivors_examines_no_document(store: Store) -> None:
    for room_id in ("r1", "r2"):
        await store.members(room_id, *(f"p{number:03d}" for number in range(200)))
    for rooms, after in ((["r1", "r2"], members.START), (["r1"], "p050")):
        pipeline = members.page_pipeline(rooms, after, 100)
        aggregate = {"aggregate": "subscriptions", "pipeline": pipeline, "cursor": {}}
        plan = await store.database.db.command("explain", aggregate, verbosity="executionStats")
        examined = list(values_of(plan, "totalDocsExamined"))
        assert examined, f"the plan does not say: {plan}"
        assert set(examined) == {0}, f"documents examined: {examined}"


def values_of(plan: Any, field: str) -> list[Any]:
    """Return the values of a field, wherever in the plan it stands."""
    match plan:
        case dict():
            below = [value for item in plan.values() for value in values_of(item, field)]
            return [plan[field], *below] if field in plan else below
        case list():
            return [value for item in plan for value in values_of(item, field)]
        case _:
            return []


async def test_pages_yield_every_member_of_many_rooms_exactly_once(store: Store) -> None:
    wanted = {
        **{f"r{number}": [f"p{account}" for account in range(number % 4)] for number in range(9)},
        "big": [f"p{account:02d}" for account in range(20)],
        "z-empty": [],
        "z-last": ["only", "\u7c73", "zoë", "\U0001f511", "Z"],
    }
    for room_id, accounts in wanted.items():
        if accounts:
            await store.members(room_id, *accounts)
    await store.members("somebody else's", "p0")
    for page in (1, 2, 3, 7, 1_000):
        found = await all_pages(store, [*wanted, *wanted], page)
        seen = {room_id: sorted(accounts) for room_id, accounts in together(found).items()}
        assert seen == {room_id: sorted(accounts) for room_id, accounts in wanted.items() if accounts}, page
        assert max(sum(map(len, accounts.values())) for accounts in found) <= page


async def test_a_member_whose_account_is_no_text_hides_nobody_behind_a_page_end(store: Store) -> None:
    """MongoDB compares within one type only: `$gt` a number finds no text."""
    hidden = {}
    for number, strange in enumerate((5, 5.5, True, None, b"x")):
        first, second = f"r{number}-0", f"r{number}-1"
        await store.members(first, "alice", "bob")
        await store.members(second, strange, "alice", "bob")
        async with asyncio.timeout(5):
            found = together(await all_pages(store, [first, second], 3))
        hidden[strange] = {"alice", "bob"} - set(found[second])
    assert not any(hidden.values()), f"not found behind an account: {hidden}"


async def test_no_rooms_and_nobody_asked_for_cost_no_query(store: Store) -> None:
    lease, _ = await store.lease()
    store.commands.take()
    assert await all_pages(store, [], 3, lease) == []
    assert await members.still_members(store.database, {}, None) == {}
    assert await members.still_members(store.database, {"r1": []}, None) == {}
    assert await load_rooms(store.database, [], None) == {}
    assert store.commands.take() == Counter()


async def test_many_small_rooms_take_one_query(store: Store) -> None:
    for number in range(30):
        await store.members(f"r{number}", "alice", "bob")
    lease, _ = await store.lease()
    store.commands.take()
    assert len(together(await all_pages(store, [f"r{number}" for number in range(30)], 1_000, lease))) == 30
    assert store.commands.take() == {"aggregate subscriptions": 1}


async def test_still_members_answers_in_the_shape_it_was_asked(store: Store) -> None:
    await store.members("r1", "alice", "bob")
    await store.members("r2", "alice")
    asked = {"r1": ["bob", "carol", "alice"], "r2": ["bob"], "r3": ["alice"], "r4": []}
    found = await members.still_members(store.database, asked, None)
    assert {room_id: sorted(accounts) for room_id, accounts in found.items() if accounts} == {
        "r1": ["alice", "bob"]
    }


# Outbox


def every_kind_of_owed() -> list[OutboxEntry]:
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


async def unpaid(database: Database, lease: Lease) -> list[StoredEntry]:
    return [entry async for some in outbox.unfinished(database, lease, 32) for entry in some]


async def test_what_is_owed_comes_back_as_it_went_in_and_in_order(store: Store) -> None:
    lease, place = await store.lease()
    wanted = []
    for sequence in (9, 10, 100):
        entries = outbox.stored_entries(lease, every_kind_of_owed(), sequence, START)
        documents = [outbox.entry_document(entry) for entry in entries]
        await store.database[outbox.OUTBOX].insert_many(documents[::-1])
        wanted += entries
    assert await unpaid(store.database, lease) == wanted
    rooms = sorted({entry.content.room_id for entry in wanted if entry.content.room_id is not None})
    assert await outbox.unfinished_rooms(store.database, SITE) == rooms
    assert await outbox.unfinished_rooms(store.database, SITE[:-1]) == []
    await outbox.delete_finished(store.database, lease, [entry.id for entry in wanted[:3]])
    assert await unpaid(store.database, lease) == wanted[3:]
    assert place == START


async def test_what_is_paid_goes_with_the_next_batch(store: Store) -> None:
    lease, place = await founded(store, "bob", "carol")
    (owed,) = await unpaid(store.database, lease)
    applied = await apply_batch(store, lease, place, [remove(2, "r1", "bob")], finished_ids=[owed.id])
    assert await unpaid(store.database, lease) == applied.entries


async def test_only_the_owner_strikes(store: Store) -> None:
    """Whoever comes next may have sent some of what an entry owes, and finds the rest only there."""
    lease, place = await store.lease()
    await apply_batch(store, lease, place, [create(1, "r1", "bob")])
    wanted = await unpaid(store.database, lease)
    after, _ = await store.lease("another")
    with pytest.raises(LeaseLost):
        await outbox.delete_finished(store.database, lease, [entry.id for entry in wanted])
    assert await unpaid(store.database, after) == wanted != []


async def test_nothing_to_strike_is_no_command(store: Store) -> None:
    lease, _ = await store.lease()
    store.commands.take()
    await outbox.delete_finished(store.database, lease, [])
    assert store.commands.take() == Counter()


async def test_an_outbox_shows_only_its_own_partitions_entries(store: Store) -> None:
    """Sites may share a database; the name of one may be any token, a colon included."""
    mine, _ = await store.lease()
    strangers = []
    for site, partition in (("site-a", 1), ("site-a", 10), ("site", 0), ("site-a:0", 1)):
        theirs = replace(mine, site=site, partition=partition)
        entries = outbox.stored_entries(theirs, every_kind_of_owed(), 1, START)
        await store.database[outbox.OUTBOX].insert_many([outbox.entry_document(entry) for entry in entries])
        assert await unpaid(store.database, theirs) == entries
        strangers += [entry.id for entry in await unpaid(store.database, mine)]
    assert strangers == []


async def test_everything_that_a_batch_names_is_found_through_indexes(store: Store) -> None:
    await store.people("alice", "bob")
    await store.members("r1", "alice", "bob")
    pipeline = batch_pipeline({"r1": ["alice", "bob"], "r2": ["carol"]}, ["r1", "r2"], 512)
    command = {"aggregate": "rooms", "pipeline": pipeline, "cursor": {}}
    plan = str(await store.database.db.command({"explain": command, "verbosity": "queryPlanner"}))
    assert "COLLSCAN" not in plan
    assert plan.count("IXSCAN") >= 4, plan
