"""Exclusion on request: whoever is removed is refused from then on, and never got a key of later."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.requests import Asker
from tests.rig import Rig

MEMBERS = [f"user-{number}" for number in range(12)]
Seen = dict[str, dict[int, str]]


@pytest.fixture
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everybody ask as often as they like."""
    monkeypatch.setattr("worker.ratelimit.RateLimit.allows", lambda *_: True)


def keys(answer: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """Return the versions and keys of an answer, of whichever request."""
    for item in answer.get("results", [answer]):
        if "privateKey" in item:
            yield item["version"], item["privateKey"]


async def ask_on(asker: Asker, account: str, seen: dict[int, str], stop: asyncio.Event) -> None:
    """Ask in every way for every key, over and over."""
    versions = range(len(MEMBERS) + 1)
    requests = [{"roomId": "r1"}, *({"roomId": "r1", "version": version} for version in versions)]
    while not stop.is_set():
        for answer in await asyncio.gather(
            asker.get(account, "r1"),
            asker.batch(account, {"requests": requests}),
            asker.sync(account, b""),
        ):
            seen.update(keys(answer))


@asynccontextmanager
async def asked_by_all(asker: Asker) -> AsyncIterator[Seen]:
    seen: Seen = defaultdict(dict)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for account in (*MEMBERS, "alice"):
            tasks.create_task(ask_on(asker, account, seen[account], stop))
        yield seen
        stop.set()


@pytest.mark.usefixtures("unlimited")
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
    for at, account in enumerate(MEMBERS):
        assert 0 in seen[account], f"{account} never got a key: the test sees nothing"
        assert max(seen[account]) <= at, f"{account} left with version {at + 1} and got {max(seen[account])}"
    assert set(seen["alice"]) == set(range(len(MEMBERS) + 1))
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
