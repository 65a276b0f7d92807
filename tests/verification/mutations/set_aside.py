"""Scenarios in which the database refuses something for a while, and workers that set rooms aside wrongly."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from roomkeys import subjects
from tests.harness.polling import until_answered
from tests.verification.mutations.site_under_test import ADD, CREATE, REMOVE, ROTATE, SHORT, SiteUnderTest

ROOM_REFUSED = ("rooms", {"_id": {"$ne": "r1"}})
DAVE_REFUSED = ("subscriptions", {"u.account": {"$ne": "dave"}})
ALL_REFUSED = ("subscriptions", {"never": True})


@asynccontextmanager
async def _refused(site: SiteUnderTest, collection: str, accepted: Mapping[str, Any]) -> AsyncIterator[None]:
    """Let the database refuse writes after which a document does not match."""
    await site.rig.db.command({"collMod": collection, "validator": accepted})
    try:
        yield
    finally:
        await site.rig.db.command({"collMod": collection, "validator": {}})


async def _until_waiting(site: SiteUnderTest, events: int) -> None:
    """Wait a short while until so many events wait, which a broken worker may never let happen."""

    async def are_waiting() -> bool:
        found = await site.rig.db.room_worker_outbox.count_documents({"_id": {"$regex": r"\.waiting\."}})
        return bool(found >= events)

    with suppress(TimeoutError):
        await until_answered(are_waiting, SHORT)


@asynccontextmanager
async def refused_event(site: SiteUnderTest) -> AsyncIterator[None]:
    """Refuse one event for a while, but not the next one of its room."""
    site.rig.limit(set_aside_pause_s=0.2)
    async with site.worker():
        await site.ask("create", CREATE)
        async with _refused(site, *DAVE_REFUSED):
            asked = [await site.rig.publish("member.add", ADD), await site.rig.publish("member.remove", REMOVE)]
            await _until_waiting(site, 2)
        await site.wait_for_results(*asked)
        yield


@asynccontextmanager
async def takeover_of_a_set_aside_room(site: SiteUnderTest) -> AsyncIterator[None]:
    """Restart the worker while a room is set aside, and once more when its event has been applied."""
    site.rig.limit(set_aside_pause_s=0.2)
    async with site.worker():
        await site.ask("create", CREATE)
        async with _refused(site, *ROOM_REFUSED):
            asked = await site.rig.publish("key.rotate", ROTATE)
            await _until_waiting(site, 1)
    async with site.worker():
        await site.wait_for_results(asked, patience=2 * SHORT)
    async with site.worker():
        await site.ask("key.rotate", ROTATE)
        yield


@asynccontextmanager
async def everything_refused(site: SiteUnderTest) -> AsyncIterator[None]:
    """Refuse all new memberships for longer than an event is tried that fails for itself."""
    site.rig.limit(set_aside_pause_s=0.02, tries_before_dead_letter=2)
    async with site.worker():
        await site.ask("create", CREATE)
        async with _refused(site, *ALL_REFUSED):
            asked = await site.rig.publish("member.add", ADD)
            letters = subjects.dead_letter_subject(site.rig.site)
            await site.briefly_until(lambda: site.rig.of(letters))
        await site.wait_for_results(asked)
        yield


def later_events_overtake() -> dict[str, Any]:
    """Let only the failed event wait."""
    return {
        "worker.pipeline.failures.set_aside:SetAside.__contains__": lambda _: lambda _self, _room: False,
        "worker.pipeline.failures.set_aside:SetAside.stored": lambda _: lambda _self, _events: [],
    }


def only_in_memory(set_aside: Any) -> Callable[..., Awaitable[None]]:
    """Move the cursor past an event, and store nothing."""
    return lambda *args: set_aside(*args[:-1], [])


def forgotten(_read_waiting: Any) -> Callable[..., Awaitable[list[Any]]]:
    """Read no waiting events."""

    async def nothing(*_: Any) -> list[Any]:
        return []

    return nothing


def never_deleted(apply: Any) -> Callable[..., Awaitable[None]]:
    """Leave the waiting event where it is when its effects are written."""

    async def applied(*args: Any, **kwargs: Any) -> None:
        kept = [one for one in kwargs.pop("finished_ids") if ".waiting." not in one]
        await apply(*args, **kwargs, finished_ids=kept)

    return applied


def no_rehearsal(_rehearse_twin: Any) -> Callable[..., Awaitable[None]]:
    """Take it for granted that the database takes such events."""

    async def rehearsed(*_: Any) -> None:
        pass

    return rehearsed
