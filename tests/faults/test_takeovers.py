"""A partition that changes hands: who had it does no harm, and who has it tells nobody old news last.

Each of these is a counterexample of the protocol's model, played on real servers. (tests/protocol)
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from store import survivors
from tests.rig import Rig

MEMBERS = [f"m{number}" for number in range(8)]
BIG: dict[str, Any] = {"roomId": "big", "name": "Big", "users": MEMBERS, "requesterAccount": "alice"}


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a room of four big, and pages and slices three accounts long."""
    monkeypatch.setattr("worker.loop.BIG_ROOM", 4)
    monkeypatch.setattr("store.survivors.PAGE", 3)
    monkeypatch.setattr("worker.writer.SLICE", 3)


class Held:
    """Holds passes back after their first page, until released; tells when the reading is over."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.released, self.over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._pages: Callable[..., AsyncIterator[Any]] = survivors.pages
        monkeypatch.setattr("worker.drainers.pages", self.pages)

    async def pages(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        try:
            async for page in self._pages(*args, **kwargs):
                yield page
                self.reached.set()
                await self.released.wait()
        finally:
            self.over.set()


async def founded(made: Rig) -> None:
    await made.users("aaron", "alice", "zed", *MEMBERS)
    await made.ask("create", BIG)


async def remove(made: Rig, *accounts: str) -> str:
    body = {"roomId": "big", "requester": "alice", "accounts": accounts}
    return await made.publish("member.remove", body)


def updates(made: Rig, account: str) -> list[str]:
    return [body["action"] for body in made.of(f"chat.user.{account}.event.subscription.update")]


async def test_who_left_in_a_slice_is_not_told_of_having_joined_by_whoever_comes_next(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The join waits for a pass; the slice that undoes it is paid before it."""
    async with site_rig.worker(partitions=1) as stop:
        await founded(site_rig)
        held = Held(monkeypatch)
        await remove(site_rig, "m7")
        await asyncio.wait_for(held.reached.wait(), 30)
        await site_rig.publish("member.add", {**BIG, "users": ["aaron"]})
        await site_rig.until(lambda: updates(site_rig, "aaron") == ["added"], "the join")
        asked = await remove(site_rig, "aaron", *MEMBERS[:6])
        await site_rig.until(lambda: updates(site_rig, "m5") == ["added", "removed"], "the last slice")
        stop.set()
    held.released.set()
    async with site_rig.worker(partitions=1):
        assert (await site_rig.result(asked))["status"] == "ok"
    assert updates(site_rig, "aaron")[-1] == "removed", updates(site_rig, "aaron")


async def test_a_pass_of_who_had_the_partition_brings_no_key_to_who_joined_since(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The join is the next owner's, who has not sent its notice yet."""
    async with site_rig.worker(partitions=1):
        await founded(site_rig)
        held = Held(monkeypatch)
        await remove(site_rig, "m7")
        await asyncio.wait_for(held.reached.wait(), 30)
        taken = {"$set": {"owner": "another"}, "$inc": {"epoch": 1}}
        await site_rig.db.room_worker_cursors.update_one({"partition": 0}, taken)
        like = await site_rig.db.subscriptions.find_one({"roomId": "big", "u.account": "m6"})
        user = {"_id": "u-zed", "account": "zed", "isBot": False}
        await site_rig.db.subscriptions.insert_one({**like, "_id": "0" * 32, "u": user})
        held.released.set()
        await asyncio.wait_for(held.over.wait(), 30)
    await site_rig.nc.flush()
    assert [version for version, _ in site_rig.keys("zed")] == []
