"""Removed members: the key service refuses them from then on, and never gave them a later key."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from store.database import Database
from tests.harness import events
from tests.harness.key_service import Asker
from tests.harness.polling import until
from tests.harness.site import Rig

MEMBERS = [f"user-{number}" for number in range(12)]
VERSIONS = range(len(MEMBERS) + 1)
EVERYTHING = {"requests": [{"roomId": "r1"}, *({"roomId": "r1", "version": version} for version in VERSIONS)]}
Seen = dict[str, dict[int, str]]


@pytest.fixture
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch the rate limit off."""
    monkeypatch.setattr("worker.key_service.rate_limit.RateLimit.allows", lambda *_: True)


@pytest.fixture
def slow_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give removals time between the two reads of a request: no other read asks for these fields."""
    find = Database.find

    async def find_slowly(*args: Any, **options: Any) -> Any:
        found = await find(*args, **options)
        projection = args[3]
        if "encKey" in projection or projection == {"_id": 0, "roomId": 1, "u.account": 1}:
            await asyncio.sleep(0.1)
        return found

    monkeypatch.setattr(Database, "find", find_slowly)


def keys(answer: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield the versions and keys of a reply, of any endpoint."""
    for item in answer.get("results", [answer]):
        if "privateKey" in item:
            yield item["version"], item["privateKey"]


async def ask_on(asker: Asker, account: str, seen: dict[int, str], stop: asyncio.Event) -> None:
    """Ask for every key, through every endpoint, until `stop`."""
    while not stop.is_set():
        for answer in await asyncio.gather(
            asker.get(account, "r1"), asker.batch(account, EVERYTHING), asker.sync(account, b"")
        ):
            seen.update(keys(answer))


@asynccontextmanager
async def asked_by_all(asker: Asker) -> AsyncIterator[Seen]:
    """Let every account ask all the time; the block begins when each member has a key."""
    seen: Seen = defaultdict(dict)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for account in (*MEMBERS, "alice"):
            tasks.create_task(ask_on(asker, account, seen[account], stop))
        await until(lambda: all(seen[account] for account in MEMBERS))
        yield seen
        stop.set()


@pytest.mark.usefixtures("unlimited", "slow_reads")
async def test_removed_members_never_get_a_key_of_after_their_removal(site_rig: Rig) -> None:
    await site_rig.users("alice", *MEMBERS)
    asker = Asker(site_rig.nc, site_rig.site)
    async with site_rig.worker():
        create = events.create("r1", *MEMBERS)
        await site_rig.ask("create", create)
        async with asked_by_all(asker) as seen:
            for account in MEMBERS:
                removed = await site_rig.ask("member.remove", events.remove("r1", account=account))
                assert removed["status"] == "ok"
                answer = await asker.get(account, "r1", {"version": 0})
                assert answer["reason"] == "not_room_member", account
                assert (await asker.sync(account, b""))["results"] == []
        seen["alice"].update(keys(await asker.batch("alice", EVERYTHING)))
    for at, account in enumerate(MEMBERS):
        assert max(seen[account]) <= at, f"{account} left with version {at + 1} and got {max(seen[account])}"
    assert set(seen["alice"]) == set(VERSIONS)
    for account in MEMBERS:
        assert seen[account].items() <= seen["alice"].items(), "one key per version"


async def test_member_that_is_added_again_can_ask_again(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob", "carol")
    asker = Asker(site_rig.nc, site_rig.site)
    async with site_rig.worker():
        create = events.create("r1", "bob", "carol")
        await site_rig.ask("create", create)
        await site_rig.ask("member.remove", events.remove("r1", account="bob"))
        assert (await asker.get("bob", "r1"))["reason"] == "not_room_member"
        await site_rig.ask("member.add", events.add("r1", "bob"))
        assert (await asker.get("bob", "r1"))["version"] == 1
