"""Errors of the database at every command of the loop: each costs time, none an event."""

from collections.abc import Iterable
from typing import Any

import pytest

from tests.faults.machinery.scenario import ROOM, Story, story
from tests.harness.site import Rig

TRANSIENT = ["TransientTransactionError"]
UNKNOWN = ["UnknownTransactionCommitResult"]
IN_TRANSACTIONS: dict[str, tuple[int, dict[str, Any]]] = {
    "the write of rooms conflicts": (4, {"update": "rooms", "errorCode": 112, "errorLabels": TRANSIENT}),
    "the write of rooms fails": (2, {"update": "rooms", "errorCode": 8}),
    "the write of rooms is not answered": (2, {"update": "rooms", "closeConnection": True}),
    "the fence fails": (2, {"update": "room_worker_cursors", "errorCode": 189}),
    "memberships conflict": (4, {"insert": "subscriptions", "errorCode": 112, "errorLabels": TRANSIENT}),
    "memberships do not go": (2, {"delete": "subscriptions", "errorCode": 11602, "errorLabels": TRANSIENT}),
    "the outbox is not written": (2, {"insert": "room_worker_outbox", "closeConnection": True}),
}
AT_COMMITS: dict[str, tuple[int, dict[str, Any]]] = {
    "nothing was committed": (2, {"errorCode": 251, "errorLabels": TRANSIENT}),
    "nobody knows": (4, {"errorCode": 50, "errorLabels": UNKNOWN}),
    "it was, but not by a majority": (3, {"writeConcernError": {"code": 64, "errmsg": "slow"}}),
    "the connection is closed once": (1, {"closeConnection": True}),
    "the connection is closed again": (5, {"closeConnection": True}),
}
AROUND: dict[str, tuple[int, dict[str, Any]]] = {
    "the former session is not killed": (5, {"failCommands": ["commitTransaction", "killSessions"], "errorCode": 50}),
    "the lease is not taken": (6, {"failCommands": ["commitTransaction", "findAndModify"], "closeConnection": True}),
    "an abort is not taken": (4, {"failCommands": ["delete", "abortTransaction"], "closeConnection": True}),
    "recipients are not read": (3, {"failCommands": ["aggregate"], "errorCode": 175}),
    "recipients are not read, for an unknown cause": (3, {"failCommands": ["aggregate"], "errorCode": 2}),
    "the connection closes under the recipients": (3, {"failCommands": ["aggregate"], "closeConnection": True}),
}
MORE = {
    "the write of rooms is not answered",
    "the fence fails",
    "the outbox is not written",
    "the connection is closed once",
    "it was, but not by a majority",
    "recipients are not read",
    "the lease is not taken",
}


def some(names: Iterable[str]) -> list[Any]:
    """Leave what is more of the same to the soak."""
    return [pytest.param(name, marks=pytest.mark.soak) if name in MORE else name for name in names]


async def hinder(made: Rig, mode: Any, failure: dict[str, Any]) -> None:
    """Let commands of the worker fail, as often as the mode says."""
    data = {"appName": "room-worker", **failure}
    await made.db.client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)


async def told_while(told: Story, times: int, failure: dict[str, Any]) -> None:
    """Tell the story to a worker some of whose commands fail."""
    async with told.made.worker(partitions=1):
        await told.begin()
        await hinder(told.made, {"times": times}, failure)
        await told.tell()
        await told.end()
    fired = await told.made.db.client.admin.command("configureFailPoint", "failCommand", mode="off")
    assert fired["count"] > 0, "it never failed"


@pytest.mark.parametrize("name", some(IN_TRANSACTIONS))
async def test_a_transaction_that_fails_in_the_middle_is_tried_again(hindered: Rig, name: str) -> None:
    times, failure = IN_TRANSACTIONS[name]
    (command, collection), *how = failure.items()
    where = {"failCommands": [command], "namespace": f"{hindered.db.name}.{collection}"}
    async with story(hindered) as told:
        await told_while(told, times, {**where, **dict(how)})


@pytest.mark.parametrize("name", some(AT_COMMITS))
async def test_a_commit_that_fails_or_is_in_doubt_is_looked_after(hindered: Rig, name: str) -> None:
    times, failure = AT_COMMITS[name]
    async with story(hindered) as told:
        await told_while(told, times, {"failCommands": ["commitTransaction"], **failure})


@pytest.mark.parametrize("name", some(AROUND))
async def test_a_failure_on_the_way_back_from_a_failure_is_one_more(hindered: Rig, name: str) -> None:
    times, failure = AROUND[name]
    async with story(hindered) as told:
        await told_while(told, times, failure)


async def test_recipients_whose_second_page_cannot_be_read_are_all_sent_the_key_before_it_is_used(
    hindered: Rig,
) -> None:
    hindered.limit(page_accounts=2)
    async with story(hindered) as told, hindered.worker(partitions=1):
        await told.begin()
        await hinder(hindered, {"skip": 1}, {"failCommands": ["aggregate"], "errorCode": 175})
        await told.tell()
        await told.until_taken(3)
        assert (await hindered.room(ROOM))["encKey"]["ver"] == 0, "not everybody holds the new key"
        await hinder(hindered, "off", {})
        await told.end()
