"""What recovery reads back: whatever other systems' documents held, and in the order in which it is due."""

from collections.abc import Iterable
from typing import Any

import pytest
from bson import ObjectId

from roomkeys.decisions.decision import OutboxEntry
from roomkeys.errors import TransientError
from tests.harness import events
from tests.harness.polling import until
from tests.harness.site import Rig
from worker.pipeline.deliver import Publisher
from worker.pipeline.loop import Loop
from worker.pipeline.state.applied_batch import AppliedBatch
from worker.pipeline.state.inbox import Inbox

CROWD = 600
"""Two adds of so many to one room make more than one outbox entry."""


def interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt the next announcement, so that the lease is taken again."""
    announce, before = Publisher.publish_results, list[str]()

    async def interrupting(self: Publisher, owed: Iterable[OutboxEntry]) -> None:
        if not before:
            before.append("interrupted")
            raise TransientError("the broker is away for a moment")
        await announce(self, list(owed))

    monkeypatch.setattr(Publisher, "publish_results", interrupting)


@pytest.mark.parametrize("odd", [{"_id": ObjectId()}, {"roles": [None, "member"]}], ids=["_id", "roles"])
async def test_a_membership_that_another_system_wrote_stops_no_recovery(
    site_rig: Rig, odd: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site_rig.worker(partitions=1):
        await site_rig.users("alice", "bob", "carol")
        await site_rig.ask("create", events.create("r1", "bob", "carol"))
        theirs = await site_rig.db.subscriptions.find_one_and_delete({"roomId": "r1", "u.account": "bob"})
        await site_rig.db.subscriptions.insert_one({**theirs, **odd})
        interrupt(monkeypatch)
        asked = [
            await site_rig.publish("member.remove", events.remove("r1", account="bob")),
            await site_rig.publish("create", events.create("r2", "carol")),
        ]
        for one in asked:
            assert (await site_rig.result(one))["status"] == "ok"
        assert set(await site_rig.members("r1")) == {"alice", "carol"}


async def test_an_apps_name_that_is_no_text_stops_no_recovery(site_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async with site_rig.worker(partitions=1):
        await site_rig.users("alice", "helper.bot")
        await site_rig.db.apps.insert_one({"assistant": {"name": "helper.bot"}, "name": 42})
        interrupt(monkeypatch)
        body = {"roomId": "dm", "users": ["helper.bot"], "requesterAccount": "alice"}
        assert (await site_rig.ask("create", body))["status"] == "ok"
    (update,) = {body["roomName"] for body in site_rig.of("chat.user.alice.event.subscription.update")}
    assert update == "42"


async def test_recovery_notifies_joiners_before_it_sends_them_the_key(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries are read one page at a time, and the entries of two adds are on two pages."""
    site_rig.limit(outbox_page=1)
    crowds = [[f"{letter}{number:04}" for number in range(CROWD)] for letter in "ab"]
    await site_rig.users("alice", *crowds[0], *crowds[1])
    async with site_rig.worker(partitions=1):
        await site_rig.ask("create", events.create("r1"))
    adds = [events.add("r1", *crowd) for crowd in crowds]
    asked = [await site_rig.publish("member.add", body) for body in adds]
    deliver, interrupted = Loop._deliver, list[int]()

    async def interrupting(self: Loop, applied: AppliedBatch, plan: Any) -> Any:
        if not interrupted:
            interrupted.append(len(applied.entries))
            raise TransientError("the broker is away for a moment")
        return await deliver(self, applied, plan)

    async def until_both_arrived(inbox: Inbox) -> None:
        await until(lambda: len(inbox) == len(adds))

    monkeypatch.setattr(Loop, "_deliver", interrupting)
    monkeypatch.setattr(Inbox, "drain_ready", until_both_arrived)
    async with site_rig.worker(partitions=1):
        for one in asked:
            assert (await site_rig.result(one))["status"] == "ok"
    assert interrupted[0] > 1, "both adds are one batch, in more than one entry"
    told, early = set[str](), set[str]()
    for item in site_rig.received:
        account = item.subject.split(".")[2]
        if item.subject.endswith(".subscription.update"):
            told.add(account)
        elif item.subject.endswith(".room.key") and account not in told:
            early.add(account)
    assert len(told) == 2 * CROWD + 1
    assert early == set()
