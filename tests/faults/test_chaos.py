"""Chaos by a seed: events while workers and servers are killed, paused and restarted, held against a model.

A failure names the seed; `CHAOS_SEED` and `CHAOS_EVENTS` in the environment run another or a longer one.
"""

import os
import random
import signal
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import nats.errors
import orjson
import pytest

from roomkeys.subjects import event_subject
from tests.command import child
from tests.rig import AT, Rig, rig
from tests.unit.model import Model, Told
from worker.servers import MongoServer, NatsServer

SEED = int(os.environ.get("CHAOS_SEED", "1"))
EVENTS = int(os.environ.get("CHAOS_EVENTS", "100"))
ACCOUNTS = [f"u{number}" for number in range(8)]
ROOMS = [f"r{number}" for number in range(6)]
EVENTS_A_FAULT = 12


@dataclass
class Chaos:
    """A site under attack: its servers, its workers, and what the model says of each request."""

    made: Rig
    servers: tuple[NatsServer, MongoServer]
    stack: AsyncExitStack
    chance: random.Random
    model: Model
    workers: list[Any] = field(default_factory=list)
    paused: list[Any] = field(default_factory=list)
    expected: dict[str, Told] = field(default_factory=dict)

    async def start_worker(self) -> None:
        driver = self.chance.choice(["motor", "pymongo"])
        most = self.chance.choice(["256", "3"])
        variables = {"MONGO_DRIVER": driver, "MAX_BATCH_EVENTS": most}
        self.workers.append(await self.stack.enter_async_context(child(self.made, **variables)))

    async def end_worker(self) -> None:
        """Kill or stop a worker and start another."""
        worker = self.workers.pop(self.chance.randrange(len(self.workers)))
        worker.send_signal(self.chance.choice([signal.SIGKILL, signal.SIGTERM]))
        await self.start_worker()

    async def pause_worker(self) -> None:
        """Let a worker sleep, or wake those that do: they find themselves without their partitions."""
        if self.paused:
            for worker in self.paused:
                worker.send_signal(signal.SIGCONT)
            self.workers += self.paused
            self.paused = []
        else:
            self.paused = [self.workers.pop()]
            self.paused[0].send_signal(signal.SIGSTOP)
            await self.start_worker()

    async def restart_broker(self) -> None:
        await self.servers[0].kill()
        await self.servers[0].start()

    async def restart_database(self) -> None:
        await self.servers[1].kill()
        await self.servers[1].start()

    async def sign_of_life(self, heard: int) -> None:
        """Wait until more messages have gone out than had been heard."""
        await self.made.until(lambda: len(self.made.received) > heard, "a sign of life")

    async def publish(self, suffix: str, body: dict[str, Any]) -> None:
        """Publish until the stream has it, as producers do; its id keeps it from being taken twice."""
        request_id = str(uuid4())
        headers = {"X-Request-ID": request_id, "Nats-Msg-Id": request_id}
        data = orjson.dumps({"timestamp": AT, **body})
        while True:
            try:
                subject = event_subject(self.made.site, suffix)
                await self.made.nc.jetstream().publish(subject, data, headers=headers, timeout=2)
            except (nats.errors.Error, OSError):
                continue
            break
        self.expected[request_id] = self.model.apply(suffix, body, AT)

    def event(self) -> tuple[str, dict[str, Any]]:
        room_id, some = self.chance.choice(ROOMS), self.chance.sample(ACCOUNTS, self.chance.randint(1, 2))
        add = {"roomId": room_id, "requesterAccount": "u0"}
        remove = {"roomId": room_id, "requester": "u0"}
        events: list[tuple[str, dict[str, Any]]] = [
            ("member.add", {**add, "users": some}),
            ("member.remove", {**remove, "accounts": some}),
            ("member.add", {**add, "orgs": ["eng"]}),
            ("member.remove", {**remove, "orgId": "eng"}),
            ("key.rotate", remove),
            ("member.add", {**add, "users": ["ghost"]}),
        ]
        return self.chance.choices(events, weights=[8, 8, 1, 1, 1, 1])[0]


@pytest.mark.timeout(600)
async def test_whatever_is_killed_rooms_end_as_the_events_say(
    own_nats: NatsServer, own_mongo: MongoServer, site: str
) -> None:
    print(f"CHAOS_SEED={SEED} CHAOS_EVENTS={EVENTS}")  # noqa: T201 - shown when it fails
    orgs = {account: frozenset({"eng"} if number % 2 else {"ops"}) for number, account in enumerate(ACCOUNTS)}
    async with rig(own_nats.url, own_mongo.uri, "chat", site) as made:
        for account in ACCOUNTS:
            await made.users(account, sectId=next(iter(orgs[account])))
        async with AsyncExitStack() as stack:
            model = Model({}, orgs, site)
            chaos = Chaos(made, (own_nats, own_mongo), stack, random.Random(SEED), model)  # noqa: S311 - a plan
            await play(chaos)
        async with made.worker():
            await made.ask("key.rotate", {"roomId": ROOMS[0], "requester": "u0"})
            for room_id in ROOMS[1:]:
                await made.ask("member.remove", {"roomId": room_id, "requester": "u0", "accounts": []})
        await judge(chaos)


async def play(chaos: Chaos) -> None:
    faults = [chaos.end_worker, chaos.end_worker, chaos.pause_worker, chaos.restart_broker, chaos.restart_database]
    await chaos.start_worker()
    await chaos.start_worker()
    for room_id in ROOMS:
        body = {"roomId": room_id, "name": room_id, "users": ACCOUNTS[1:4], "requesterAccount": "u0"}
        await chaos.publish("create", body)
    for number in range(1, EVENTS + 1):
        await chaos.publish(*chaos.event())
        if number % EVENTS_A_FAULT == 0:
            await chaos.chance.choice(faults)()
            # The next fault strikes at work, not at a start: somebody has got on with it since.
            heard = len(chaos.made.received)
            await chaos.publish(*chaos.event())
            await chaos.sign_of_life(heard)


async def judge(chaos: Chaos) -> None:
    made, model = chaos.made, chaos.model
    model.apply("key.rotate", {"roomId": ROOMS[0], "requester": "u0"}, AT)
    for room_id in ROOMS:
        document, members, wanted = await made.room(room_id), await made.members(room_id), model.rooms[room_id]
        assert set(members) == set(wanted.members), room_id
        assert (document["userCount"], document["appCount"]) == (len(members), 0), room_id
        assert document["encKey"]["ver"] == wanted.version, f"{room_id}: as many rotations as events"
        rows = await made.db.room_members.find({"rid": room_id}).to_list(None)
        individuals = {row["member"]["account"] for row in rows if row["member"]["type"] == "individual"}
        assert individuals == wanted.individuals, room_id
    for request_id, expected in chaos.expected.items():
        for result in made.received:
            if result.subject.endswith(request_id):
                error = None if result.body["status"] == "ok" else (result.body["code"], result.body["reason"])
                assert error == expected.error, result
    keys = defaultdict(set)
    for item in made.received:
        if item.subject.endswith(".event.room.key"):
            keys[item.body["roomId"], item.body["version"]].add(item.body["privateKey"])
    assert [pair for pair, of_pair in keys.items() if len(of_pair) > 1] == [], "one key per version"
