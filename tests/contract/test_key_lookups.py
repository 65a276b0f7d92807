"""What the key service reads: in how many commands, along which index, and which keys of a room."""

import secrets
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandListener, CommandStartedEvent

from roomkeys.errors import TransientError
from roomkeys.keys import RoomKey
from roomkeys.membership import RoomView
from store.database import Driver, connect
from store.reads.key_lookups import (
    MembershipQuery,
    RoomsQuery,
    list_rooms,
    membership_filter,
    read_room_views,
    rooms_pipeline,
)
from tests.contract.stores import AT, DAY, Store, apply_batch, event, settle_batch
from worker.local.servers import MongoServer

HOUR = timedelta(hours=1)
LOOKUP = {"find rooms": 1, "find subscriptions": 1}


async def rooms(store: Store, *documents: dict[str, Any]) -> None:
    """Store rooms that alice is a member of."""
    await store.database["rooms"].insert_many(list(documents))
    for document in documents:
        await store.members(document["_id"], "alice")


PATIENT = 3.0
"""Seconds that a read may take."""


async def view_of(store: Store, *versions: int, at: int = AT, room_id: str = "r1") -> RoomView:
    """Return what alice may know about a room."""
    (found,) = await read_room_views(
        store.database, [RoomsQuery("alice", (room_id,), frozenset(versions))], at, PATIENT
    )
    return found[room_id]


def key(version: int) -> dict[str, Any]:
    return {"ver": version, "priv": secrets.token_bytes(32)}


async def test_one_room_and_hundreds_cost_two_queries(store: Store) -> None:
    many = 300
    await rooms(store, *({"_id": f"r{number:04d}", "encKey": key(1)} for number in range(many)))
    ids = tuple(f"r{number:04d}" for number in range(many))
    store.commands.take()
    (one,) = await read_room_views(store.database, [RoomsQuery("alice", ids[:1])], AT, PATIENT)
    assert store.commands.take() == Counter(LOOKUP)
    found = await read_room_views(
        store.database, [RoomsQuery("alice", ids), *(RoomsQuery(f"x{n}", ids) for n in range(19))], AT, PATIENT
    )
    assert store.commands.take() == Counter(LOOKUP)
    assert [len(one), *map(len, found)] == [1, many, *[0] * 19]


async def test_each_query_gets_only_its_own_rooms(store: Store) -> None:
    await rooms(store, {"_id": "r1", "encKey": key(1)}, {"_id": "r2", "encKey": key(2)}, {"_id": "r3"})
    await store.members("r2", "bob")
    await store.members("nowhere", "bob")
    queries = [
        RoomsQuery("alice", ("r1", "r2")),
        RoomsQuery("bob", ("r1", "r2", "nowhere")),
        RoomsQuery("carol", ("r1", "r2", "r3")),
    ]
    assert [sorted(found) for found in await read_room_views(store.database, queries, AT, PATIENT)] == [
        ["r1", "r2"],
        ["r2"],
        [],
    ]


async def test_keys_are_read_before_members_in_one_causal_session_from_the_primary(
    mongo_uri: str, database: str
) -> None:
    """That holds whatever the URI says. A key that is read before the members is older than later removals."""
    seen: list[dict[str, Any]] = []

    class Watch(CommandListener):
        def started(self, event: CommandStartedEvent) -> None:
            if event.command_name == "find":
                seen.append(dict(event.command))

        def succeeded(self, _event: Any) -> None: ...
        def failed(self, _event: Any) -> None: ...

    uri = f"{mongo_uri}&readPreference=secondaryPreferred&readConcernLevel=local"
    over = connect(uri, database, "pymongo", listeners=[Watch()])
    await read_room_views(over, [RoomsQuery("alice", ("r1",))], AT, PATIENT)
    await over.close()
    first, second = seen
    assert (first["find"], second["find"]) == ("rooms", "subscriptions")
    assert first["lsid"] == second["lsid"]
    assert {item["readConcern"]["level"] for item in seen} == {"majority"}
    assert "afterClusterTime" in second["readConcern"]
    assert {item.get("$readPreference", {"mode": "primary"})["mode"] for item in seen} <= {
        "primary",
        "primaryPreferred",  # what a driver sends on a direct connection
    }


async def examined(store: Store, query: dict[str, Any]) -> dict[str, Any]:
    """Return what the server examines for a filter on memberships."""
    projection = {"_id": 0, "roomId": 1, "u.account": 1}
    command = {"find": "subscriptions", "filter": query, "projection": projection}
    plan = await store.database.db.command("explain", command, verbosity="executionStats")
    return dict(plan["executionStats"])


@pytest.mark.parametrize("accounts", [1, 60], ids=["an-account-of-many-rooms", "many-accounts-of-few-rooms"])
async def test_memberships_are_read_from_an_index_only(store: Store, accounts: int) -> None:
    ids = [f"r{number}" for number in range(30)]
    for room_id in ids:
        await store.members(room_id, *(f"a{number}" for number in range(60)))
    asked = [RoomsQuery(f"a{number}", tuple(ids[:20] if accounts == 1 else ids[:2])) for number in range(accounts)]
    stats = await examined(store, membership_filter(asked, ids))
    wanted = sum(len(query.room_ids) for query in asked)
    assert (stats["totalDocsExamined"], stats["nReturned"]) == (0, wanted)
    assert stats["totalKeysExamined"] <= 2 * wanted + accounts + len(ids)


async def test_rooms_of_accounts_are_listed_from_an_index_only(store: Store) -> None:
    for number in range(30):
        await store.members(f"r{number:02d}", *(f"a{account}" for account in range(10)))
    pipeline = rooms_pipeline(["a3", "a7"], "r24", 2_000)
    command = {"aggregate": "subscriptions", "pipeline": pipeline, "cursor": {}}
    plan = await store.database.db.command("explain", command, verbosity="executionStats")
    stats = plan.get("executionStats") or plan["stages"][0]["$cursor"]["executionStats"]
    assert stats["totalDocsExamined"] == 0
    assert stats["totalKeysExamined"] <= 14, "the results, and the bounds of each account"


async def test_one_query_lists_up_to_a_page_of_rooms_per_account(store: Store) -> None:
    for number in range(9):
        await store.members(f"r{number}", "alice", *(["bob"] if number > 6 else []))
    store.commands.take()
    asked = [MembershipQuery("alice"), MembershipQuery("nobody"), MembershipQuery("bob"), MembershipQuery("alice")]
    page = ["r0", "r1", "r2", "r3"]
    assert await list_rooms(store.database, asked, 3, PATIENT) == [page, [], ["r7", "r8"], page]
    assert store.commands.take() == Counter({"aggregate subscriptions": 1})
    asked = [
        MembershipQuery("alice", "r5"),
        MembershipQuery("alice"),
        MembershipQuery("bob", "r7"),
        MembershipQuery("bob", "r8"),
    ]
    assert await list_rooms(store.database, asked, 3, PATIENT) == [["r6", "r7", "r8"], page, ["r8"], []]


async def test_room_view_has_settled_keys_and_never_the_staged_one(store: Store) -> None:
    await store.people("alice", "bob", "carol")
    lease, position = await store.lease()
    create = event(1, "create", roomId="r1", name="r", users=["bob", "carol"], requesterAccount="alice")
    staged = await apply_batch(store, lease, position, [create])
    assert await view_of(store, 0) == RoomView(None, (), users=3, rotating=True)
    await settle_batch(store, lease, staged)
    first = staged.staged["r1"]
    assert await view_of(store, 0) == RoomView(first, (), users=3)
    remove = event(2, "member.remove", roomId="r1", requester="alice", account="bob")
    rotating = await apply_batch(store, lease, staged.position, [remove])
    assert await view_of(store, 0, 1) == RoomView(first, (), users=2, rotating=True)
    await settle_batch(store, lease, rotating)
    second = rotating.staged["r1"]
    assert await view_of(store, 0, 1) == RoomView(second, (first,), users=2)
    assert (await view_of(store, 0, 1, at=AT + DAY)).others == (), "its grace period is over"
    assert (await view_of(store)).others == (), "only requested versions are read"


async def test_only_requested_replaced_keys_are_read(store: Store) -> None:
    until = datetime.now(UTC) + HOUR
    past = [{**key(version), "until": until} for version in range(400)]
    current = key(400)
    await rooms(store, {"_id": "r1", "encKey": current, "keyRotation": {"current": current, "past": past}})
    view = await view_of(store, 7, 399, 400, 1_000)
    assert [(item.version, item.secret) for item in view.others] == [
        (version, past[version]["priv"]) for version in (7, 399)
    ]


async def test_lost_key_is_not_in_use_but_available_by_its_version(store: Store) -> None:
    ours = key(4)
    await rooms(store, {"_id": "r1", "keyRotation": {"high": 4, "settled": 4, "current": ours}})
    view = await view_of(store)
    assert (view.current, view.key(4)) == (None, RoomKey(4, ours["priv"]))


async def test_foreign_key_is_withheld_while_its_version_may_become_ours(store: Store) -> None:
    ours = key(4)
    rotation = {"high": 5, "settled": 4, "current": ours, "staged": key(5)}
    versions = (3, 4, 5, 9)
    await rooms(store, *({"_id": f"r{n}", "encKey": key(n), "keyRotation": rotation} for n in versions))
    for version in versions:
        view = await view_of(store, 3, 4, 5, 9, room_id=f"r{version}")
        assert (view.current, view.key(4)) == (None, RoomKey(4, ours["priv"])), version
        assert [view.key(other) for other in (3, 5, 9)] == [None] * 3, version


async def test_keys_of_the_previous_system_are_available_until_ours_settles(store: Store) -> None:
    now, before = key(7), key(6)
    previous = {"prevVer": 6, "prevPriv": before["priv"], "prevExpiresAt": datetime.fromtimestamp(AT / 1000, UTC)}
    staged = {"high": 8, "staged": key(8)}
    await rooms(store, {"_id": "r1", "encKey": now | previous}, {"_id": "r2", "encKey": now, "keyRotation": staged})
    view = await view_of(store, at=AT - 1)
    assert (view.key(None), view.key(6)) == (RoomKey(7, now["priv"]), RoomKey(6, before["priv"]))
    assert (await view_of(store, at=AT)).key(6) is None, "its grace period is over"
    view = await view_of(store, room_id="r2")
    assert (view.key(None), view.key(8), view.rotating) == (RoomKey(7, now["priv"]), None, True)


GARBAGE: list[dict[str, Any]] = [
    {"encKey": 7, "keyRotation": 7},
    {"encKey": {"ver": "1", "priv": b"k" * 32}, "keyRotation": {"past": 7}},
    {"encKey": {"ver": 1, "priv": b"short"}, "keyRotation": {"past": [7, None, {"ver": 1}, {"until": "x"}]}},
    {"encKey": [1], "keyRotation": {"past": [{"ver": 1, "priv": b"k" * 32, "until": 9**15}]}},
    {"encKey": {"ver": -1, "priv": b"k" * 32, "prevVer": 1, "prevPriv": b"k" * 32, "prevExpiresAt": 1}},
    {"keyRotation": [1, 2], "userCount": None, "appCount": "many"},
]


async def test_malformed_room_has_no_key_and_does_not_affect_others(store: Store) -> None:
    healthy = key(1)
    ids = [f"g{number}" for number in range(len(GARBAGE))]
    spoiled = [{"_id": room_id, **garbage} for room_id, garbage in zip(ids, GARBAGE, strict=True)]
    await rooms(store, *spoiled, {"_id": "r1", "encKey": healthy})
    (found,) = await read_room_views(store.database, [RoomsQuery("alice", (*ids, "r1"), frozenset({1}))], AT, PATIENT)
    assert [found[room_id] for room_id in ids] == [RoomView()] * len(GARBAGE)
    assert found["r1"].current == RoomKey(1, healthy["priv"])


async def test_malformed_memberships_are_ignored_and_do_not_affect_others(store: Store) -> None:
    await rooms(store, {"_id": "r1", "encKey": key(1)})
    garbage: list[dict[str, Any]] = [
        {"_id": "1", "roomId": "r1", "u": [{"account": "bob"}]},
        {"_id": "2", "roomId": ["r2", "r3"], "u": {"account": "bob"}},
        {"_id": "3", "roomId": "r4", "u": {"account": ["bob"]}},
    ]
    await store.database["subscriptions"].insert_many(garbage)
    ids = ("r1", "r2", "r3", "r4")
    found = await read_room_views(store.database, [RoomsQuery("alice", ids), RoomsQuery("bob", ids)], AT, PATIENT)
    assert [sorted(item) for item in found] == [["r1"], []]
    (listed,) = await list_rooms(store.database, [MembershipQuery("bob")], 2_000, PATIENT)
    assert set(listed) <= {"r1", "r2", "r3", "r4"}


@pytest.mark.parametrize("driver", get_args(Driver))
@pytest.mark.parametrize("command", ["find", "aggregate"])
async def test_slow_database_is_a_transient_error(own_mongo: MongoServer, driver: Driver, command: str) -> None:
    slow = {"failCommands": [command], "blockConnection": True, "blockTimeMS": 2_000, "appName": "room-worker"}
    async with AsyncMongoClient[dict[str, Any]](own_mongo.uri, serverMonitoringMode="poll") as client:
        await client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=slow)
    database = connect(own_mongo.uri, "x", driver)
    queries = [RoomsQuery("alice", ("r1",))]
    with pytest.raises(TransientError):
        await (
            read_room_views(database, queries, AT, 0.3)
            if command == "find"
            else list_rooms(database, [MembershipQuery("alice")], 2_000, 0.3)
        )
    assert await read_room_views(database, queries, AT, PATIENT) == [{}]
    await database.close()
