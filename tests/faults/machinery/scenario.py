"""A short story of one room, told to workers under attack, and what must be true at its end."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import nats.errors
import orjson
from nats.js.errors import APIError

from roomkeys import subjects
from tests.harness import events
from tests.harness.site import AT, PATIENCE, Rig

Event = tuple[str, dict[str, Any]]
Key = tuple[int, bytes]

ROOM = "r1"
STAYED = {"alice", "dave", "erin"}
LEFT = {"bob": 0, "frank": 0, "carol": 2}
"""Who left, and the last version that each of them may hold."""

CREATE = events.create(ROOM, "bob", "carol", "erin", "frank")
BEGINNING: list[Event] = [("create", CREATE)]
MIDDLE: list[Event] = [("member.remove", events.remove(ROOM, accounts=["bob", "frank"]))]
END: list[Event] = [
    ("member.add", events.add(ROOM, "dave")),
    ("key.rotate", events.rotate(ROOM)),
    ("member.remove", events.remove(ROOM, account="carol")),
]
LAST_VERSION = 3
KEY_OF_ALICE = b"PUB chat.user.alice.event.room.key "
"""The first protocol line of every fan-out to the room."""

SIZES: dict[str, dict[str, int]] = {
    "small": {},
    "big": {"large_room_members": 2, "page_accounts": 2, "window_accounts": 1},
    "sliced": {"batch_accounts": 1},
}
"""Limits of the worker by which the story's few people make a small room, a big one, or many slices."""


@dataclass
class Story:
    """What was asked for, and who held which key when it came into use."""

    made: Rig
    asked: list[str] = field(default_factory=list)
    held: dict[Key, set[str]] = field(default_factory=dict)

    async def begin(self) -> None:
        """Create the room and wait for it."""
        await self.tell(BEGINNING)
        await self.results()

    async def tell(self, events: Sequence[Event] = (*MIDDLE, *END)) -> None:
        """Publish what happens in it, all or a part."""
        for suffix, body in events:
            self.asked.append(await self._publish(suffix, body))

    async def _publish(self, suffix: str, body: dict[str, Any]) -> str:
        """Publish until the stream has it, as producers do; its id keeps it from being taken twice."""
        request_id = str(uuid4())
        headers = {"X-Request-ID": request_id, "Nats-Msg-Id": request_id}
        subject, data = subjects.event_subject(self.made.site, suffix), orjson.dumps({"timestamp": AT, **body})
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await self.made.nc.jetstream().publish(subject, data, headers=headers, timeout=2)
                except (nats.errors.Error, APIError, OSError):
                    await asyncio.sleep(0.1)
                else:
                    return request_id

    async def results(self) -> None:
        """Wait until everything that was asked for has its result."""
        for request_id in self.asked:
            await self.made.result(request_id)

    async def end(self, *, unheard: bool = False) -> None:
        """Wait until everything has its result and nothing is owed any more.

        Results that the recorder may have missed are `unheard`; that of one more event, which changes nothing,
        tells that they have been sent.
        """
        if unheard:
            await self.tell([("member.add", events.add(ROOM, "erin"))])
        await (self.made.result(self.asked[-1]) if unheard else self.results())
        outbox = self.made.db.room_worker_outbox
        async with asyncio.timeout(PATIENCE), await outbox.watch() as changes:
            while await outbox.count_documents({}):
                await changes.next()

    async def until_taken(self, times: int) -> None:
        """Wait until the first partition has been taken so many times."""
        cursors = self.made.db.room_worker_cursors
        async with asyncio.timeout(PATIENCE), await cursors.watch() as changes:
            while not await cursors.count_documents({"epoch": {"$gte": times}}):
                await changes.next()

    async def declare_dead(self) -> None:
        """Let the replicas that there are count as dead at once, not only when a lease has run out."""
        await self.made.db.room_worker_replicas.delete_many({"site": self.made.site})


@asynccontextmanager
async def story(made: Rig, *, recorded: bool = True, in_order: bool = True) -> AsyncIterator[Story]:
    """Let a story be told within the block, whose workers have all ended at its end, and judge what came of it.

    `recorded` is False where the recorder's own connection breaks: it may miss keys. `in_order` is False where
    what the broker took may come to the recorder later than the database's news, as from another server.
    """
    await made.users(*STAYED, *LEFT)
    told = Story(made)
    watching = asyncio.create_task(_watch(told)) if recorded and in_order else None
    try:
        yield told
        if watching is not None:
            await _until_seen(told, watching)
    finally:
        if watching is not None:
            watching.cancel()
            await asyncio.wait({watching})
    await judge(told, recorded=recorded)


async def judge(told: Story, *, recorded: bool = True) -> None:
    """Hold everything that went out and everything that is stored against the story."""
    made, sent, room = told.made, keys_sent(told.made), await told.made.room(ROOM)
    in_use = (room["encKey"]["ver"], bytes(room["encKey"]["priv"]))
    assert in_use[0] == LAST_VERSION, f"as many rotations as events, not {in_use[0]}"
    assert "staged" not in room["keyRotation"], "nothing is on its way"
    assert set(await made.members(ROOM)) == STAYED
    versions = [version for version, _ in {*sent, in_use}]
    assert len(versions) == len(set(versions)), f"one key per version, not {sorted(versions)}"
    for account, last in LEFT.items():
        versions = [version for version, _ in made.keys(account, ROOM)]
        assert max(versions, default=0) <= last, f"{account} left and holds {versions}"
    if recorded:
        assert sent[in_use] >= STAYED, f"only {sorted(sent[in_use])} hold the key in use"
        for (version, _), holders in told.held.items():
            assert holders >= STAYED - {"dave"}, f"version {version} came into use when {sorted(holders)} held it"
    for request_id in told.asked:
        statuses = {item.body["status"] for item in made.received if item.subject.endswith(request_id)}
        assert statuses == {"ok"} or not (statuses or recorded), f"{statuses} for {request_id}"
    assert await made.db.room_worker_outbox.count_documents({}) == 0, "nothing is owed"
    assert made.of(subjects.dead_letter_subject(made.site)) == []


def keys_sent(made: Rig) -> dict[Key, set[str]]:
    """Return who was sent which key of the room."""
    sent: dict[Key, set[str]] = defaultdict(set)
    for account in {*STAYED, *LEFT}:
        for key in made.keys(account, ROOM):
            sent[key].add(account)
    return sent


async def _watch(told: Story) -> None:
    """Note, each time that a key comes into use, who has been sent it."""
    async with await told.made.db.rooms.watch() as changes:
        async for change in changes:
            in_use = change.get("updateDescription", {}).get("updatedFields", {}).get("encKey")
            if in_use is not None:
                await caught_up(told.made)  # what the broker took before has arrived now
                key = (in_use["ver"], bytes(in_use["priv"]))
                told.held[key] = set(keys_sent(told.made)[key])
                told.made.changed.set()


async def caught_up(made: Rig) -> None:
    """Wait until the recorder is connected and has received all that the broker had for it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await made.nc.rtt(timeout=1)
            except (nats.errors.Error, OSError):
                await asyncio.sleep(0.1)
            else:
                return


async def _until_seen(told: Story, watching: asyncio.Task[None]) -> None:
    """Wait until the last key in use has been noted."""
    watching.add_done_callback(lambda _: told.made.changed.set())
    async with asyncio.timeout(PATIENCE):
        while not watching.done() and all(version < LAST_VERSION for version, _ in told.held):
            told.made.changed.clear()
            await told.made.changed.wait()
    if watching.done():
        watching.result()
