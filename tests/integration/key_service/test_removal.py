"""Exclusion on request: whoever is removed is refused from then on, and never got a key of later."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from store.database import Database
from tests.conftest import until
from tests.harness.key_service import Asker
from tests.harness.site import Rig

MEMBERS = [f"user-{number}" for number in range(12)]
VERSIONS = range(len(MEMBERS) + 1)
EVERYTHING = {"requests": [{"roomId": "r1"}, *({"roomId": "r1", "version": version} for version in VERSIONS)]}
Seen = dict[str, dict[int, str]]


@pytest.fixture
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everybody ask as often as they like."""
    monkeypatch.setattr("worker.key_service.rate_limit.RateLimit.allows", lambda *_: True)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let removals happen between the two reads of a lookup: no other read asks for these fields."""
    find = Database.find

    async def linger(*args: Any, **options: Any) -> Any:
        found = await find(*args, **options)
        projection = args[3]
        if "encKey" in projection or projection == {"_id": 0, "roomId": 1, "u.account": 1}:
            await asyncio.sleep(0.1)
        return found

    monkeypatch.setattr(Database, "find", linger)


def keys(answer: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield the versions and keys of an answer, of whichever request."""
    for item in answer.get("results", [answer]):
        if "privateKey" in item:
            yield item["version"], item["privateKey"]


async def ask_on(asker: Asker, account: str, seen: dict[int, str], stop: asyncio.Event) -> None:
    """Ask in every way for every key, over and over."""
    while not stop.is_set():
        for answer in await asyncio.gather(
            asker.get(account, "r1"),
            asker.batch(account, EVERYTHING),
            asker.sync(account, b""),
        ):
            seen.update(keys(answer))


@asynccontextmanager
async def asked_by_all(asker: Asker) -> AsyncIterator[Seen]:
    """Let everybody ask all the time; it begins when all of them have got a key."""
    seen: Seen = defaultdict(dict)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for account in (*MEMBERS, "alice"):
            tasks.create_task(ask_on(asker, account, seen[account], stop))

        async def begun() -> bool:
            return all(seen[account] for account in MEMBERS)

        await until(begun)
        yield seen
        stop.set()


@pytest.mark.usefixtures("unlimited", "unhurried")
async def test_while_members_are_removed_nobody_gets_a_key_of_after_its_removal(site_rig: Rig) -> None:
    await site_rig.users("alice", *MEMBERS)
    asker = Asker(site_rig.nc, site_rig.site)
    async with site_rig.worker():
        create = {"roomId": "r1", "name": "general", "users": MEMBERS, "requesterAccount": "alice"}
        await site_rig.ask("create", create)
        async with asked_by_all(asker) as seen:
            for account in MEMBERS:
                removed = await site_rig.ask(
                    "member.remove", {"roomId": "r1", "requester": "alice", "account": account}
                )
                assert removed["status"] == "ok"
                answer = await asker.get(account, "r1", {"version": 0})
                assert answer["reason"] == "not_room_member", account
                assert (await asker.sync(account, b""))["results"] == []
        seen["alice"].update(keys(await asker.batch("alice", EVERYTHING)))
    for at, account in enumerate(MEMBERS):
        assert max(seen[account]) <= at, f"{account} left with version {at + 1} and got {max(seen[account])}"
    assert set(seen["alice"]) == set(VERSIONS)
    for account in MEMBERS:
        assert seen[account].items() <= seen["alice"].items(), "one key a version"


async def test_whoever_comes_back_may_ask_again(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob", "carol")
    asker = Asker(site_rig.nc, site_rig.site)
    async with site_rig.worker():
        create = {"roomId": "r1", "name": "general", "users": ["bob", "carol"], "requesterAccount": "alice"}
        await site_rig.ask("create", create)
        await site_rig.ask("member.remove", {"roomId": "r1", "requester": "alice", "account": "bob"})
        assert (await asker.get("bob", "r1"))["reason"] == "not_room_member"
        await site_rig.ask("member.add", {"roomId": "r1", "users": ["bob"], "requesterAccount": "alice"})
        assert (await asker.get("bob", "r1"))["version"] == 1
