"""What a batch and a fan-out cost, in numbers that do not depend on the machine."""

import asyncio
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import orjson
import pytest
from pymongo.monitoring import CommandListener, CommandStartedEvent

from roomkeys.messages.frame import frame
from store.database import connect
from tests.harness import events
from tests.harness.site import AT, PATIENCE, Rig
from worker import app
from worker.broker.connection import Broker
from worker.broker.fanout import CHUNK_ACCOUNTS
from worker.pipeline.state.inbox import Inbox
from worker.telemetry import metrics

MEMBERS = ("alice", "bob", "carol", "dave")
BESIDE_THE_LOOP = {
    f"{command} room_worker_{collection}"
    for command, collection in (
        ("find", "cursors"),
        ("find", "replicas"),
        ("update", "replicas"),
        ("aggregate", "replicas"),
    )
}
"""What a replica asks twice a second, whatever its partitions do."""


class Counts(CommandListener):
    """Counts what is done from the moment a batch is read to the moment its results are out."""

    def __init__(self) -> None:
        self.begun = 0
        self.counted: Counter[str] | None = None

    def note(self, what: str) -> None:
        if self.counted is not None:
            self.counted[what] += 1

    def started(self, event: CommandStartedEvent) -> None:
        name = f"{event.command_name} {event.command.get(event.command_name)}"
        if event.command_name not in {"hello", "ping", "endSessions"} and name not in BESIDE_THE_LOOP:
            self.note(f"command {name}")
            for _ in event.command.get("deletes", ()):
                self.note(f"delete {name}")

    def succeeded(self, _event: object) -> None:
        """Do nothing: what was sent was counted."""

    def failed(self, _event: object) -> None:
        """Do nothing: what was sent was counted."""

    def total(self, kind: str) -> int:
        """Return how many of a kind were counted: commands, statements that delete, barriers, serialisations."""
        counted = self.counted or Counter[str]()
        return sum(number for what, number in counted.items() if what.partition(" ")[0] == kind)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """Count commands, barriers, serialisations, and the batch's steps."""
    made = Counts()
    monkeypatch.setattr(app, "connect", lambda *args, **kwargs: connect(*args, **kwargs, listeners=[made]))
    serialise = orjson.dumps

    def dumps(value: Any) -> bytes:
        if "privateKey" in value:
            made.note("serialisation")
        return serialise(value)

    monkeypatch.setattr(orjson, "dumps", dumps)
    return made


@asynccontextmanager
async def counting(made: Rig, counts: Counts, monkeypatch: pytest.MonkeyPatch, waiting: int) -> AsyncIterator[None]:
    """Run a worker that is held in its first batch until as many events wait, which become its second batch."""
    there, held = asyncio.Event(), asyncio.Event()
    confirm, offer, step = Broker._round_trip, Inbox.offer, metrics.step
    arrived = 0

    async def confirmed(broker: Broker, epoch: int) -> bool:
        counts.note("barrier")
        if counts.begun == 1 and not held.is_set():
            held.set()
            await asyncio.wait_for(there.wait(), PATIENCE)
        return await confirm(broker, epoch)

    def arrives(inbox: Inbox, event: Any, position: Any) -> bool:
        nonlocal arrived
        accepted = offer(inbox, event, position)
        arrived += 1
        if arrived == 1 + waiting:
            there.set()
        return accepted

    @contextmanager
    def watched(name: str) -> Iterator[None]:
        if name == "read":
            counts.begun += 1
            counts.counted = Counter() if counts.begun == 2 else counts.counted
        with step(name):
            yield

    monkeypatch.setattr(Broker, "_round_trip", confirmed)
    monkeypatch.setattr(Inbox, "offer", arrives)
    monkeypatch.setattr(metrics, "step", watched)
    async with made.worker(partitions=1, key_service=False):
        await made.publish("key.rotate", events.rotate("first"))
        await asyncio.wait_for(held.wait(), PATIENCE)
        yield


async def rooms(made: Rig, *room_ids: str) -> None:
    facts = {"name": "general", "type": "channel", "siteId": made.site, "userCount": len(MEMBERS), "appCount": 0}
    key = {"priv": bytes(32), "ver": 0}
    await made.db.rooms.insert_many([{"_id": room_id, **facts, "encKey": key} for room_id in room_ids])
    await made.db.subscriptions.insert_many(
        [
            {
                "_id": f"{room_id}-{account}",
                "roomId": room_id,
                "u": {"_id": f"u-{account}", "account": account, "isBot": False},
                "roles": ["member"],
            }
            for room_id in room_ids
            for account in MEMBERS
        ]
    )


async def cost_of_a_batch(made: Rig, counts: Counts, monkeypatch: pytest.MonkeyPatch, size: int) -> Counts:
    """Let a whole worker process one batch of removals, each in a different room; return what it cost."""
    await made.users(*MEMBERS)
    room_ids = [f"r{number}" for number in range(size)]
    await rooms(made, "first", *room_ids)
    removal = {"requester": "alice", "account": "dave", "timestamp": AT}
    async with counting(made, counts, monkeypatch, size):
        asked = [await made.publish("member.remove", {"roomId": room_id, **removal}) for room_id in room_ids]
        await asyncio.gather(*map(made.result, asked))
        counted, counts.counted = counts.counted, None
    assert counts.begun == 2, "the events became one batch"
    counts.counted = counted
    return counts


SIZES = (1, 10, 256)
COMMANDS = 11
"""One read that includes the survivors, five to apply, five to settle (with a check and the finished entries)."""


@pytest.mark.parametrize("size", SIZES)
async def test_a_batch_of_removals_costs_the_same_commands_and_two_barriers_whatever_its_size(
    site_rig: Rig, counts: Counts, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    cost = await cost_of_a_batch(site_rig, counts, monkeypatch, size)
    assert cost.total("command") == COMMANDS, str(cost.counted)
    assert cost.total("delete") == 2, "one for all memberships, one for all finished entries"
    assert cost.total("barrier") == 2, "one before settling, one after the results"
    assert cost.total("serialisation") == size, "one for each room's fan-out"


def test_a_page_holds_one_copy_of_the_payload_a_recipient_and_is_made_in_two_steps() -> None:
    """What stands between accounts is put there, then what comes first and last: each step makes the page once."""
    accounts = [f"m{number}" for number in range(CHUNK_ACCOUNTS)]
    body = b"x" * 2_000
    tracemalloc.start()
    try:
        page = frame(accounts, body)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert page.count(body) == len(accounts)
    assert most < 2.5 * len(page), f"{most / len(page):.2f} pages were in memory at once"
