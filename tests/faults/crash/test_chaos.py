"""Chaos by a seed: events while workers and servers are killed, paused and restarted, before a judge.

A failure names the seed; `CHAOS_SEED` and `CHAOS_EVENTS` in the environment run another or a longer one.
"""

import os
import random
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.faults.machinery.limits import SMALL_LIMITS
from tests.harness.processes import child
from tests.harness.site import Rig, rig
from tests.verification.oracle.judge import find_violations
from tests.verification.oracle.plan import Plan, publish
from tests.verification.oracle.recorder import Recorder, recorder
from tests.verification.oracle.recording import Recording
from worker.local.servers import MongoServer, NatsServer

SEED = int(os.environ.get("CHAOS_SEED", "1"))
EVENTS = int(os.environ.get("CHAOS_EVENTS", "100"))
PLAN = Plan(tuple(f"r{number}" for number in range(6)), tuple(f"u{number}" for number in range(8)))
EVENTS_A_FAULT = 12


@dataclass
class Chaos:
    """A site under attack: its servers and its workers."""

    made: Rig
    servers: tuple[NatsServer, MongoServer]
    stack: AsyncExitStack
    chance: random.Random
    small: bool = False
    workers: list[Any] = field(default_factory=list)
    paused: list[Any] = field(default_factory=list)

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

    async def publish(self) -> None:
        """Publish any event."""
        await publish(self.made, *PLAN.event(self.chance))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("small", [False, True], ids=["", "small numbers"])
async def test_whatever_is_killed_every_invariant_holds(
    own_nats: NatsServer, own_mongo: MongoServer, site: str, *, small: bool
) -> None:
    print(f"CHAOS_SEED={SEED} CHAOS_EVENTS={EVENTS}")  # noqa: T201 - shown when it fails
    async with rig(own_nats.url, own_mongo.uri, "chat", site) as made:
        made.limit(**SMALL_LIMITS if small else {})
        await PLAN.create_users(made)
        async with recorder([own_nats.url], made.db, site) as record:
            async with AsyncExitStack() as stack:
                chance = random.Random(SEED)  # noqa: S311 - a plan
                await play(Chaos(made, (own_nats, own_mongo), stack, chance, small=small))
            recording = await calm_down(made, record)
    assert find_violations(recording) == []
    assert len(recording.events) == len(PLAN.rooms) * 2 + EVENTS + EVENTS // EVENTS_A_FAULT


async def play(chaos: Chaos) -> None:
    faults = [chaos.end_worker, chaos.end_worker, chaos.pause_worker, chaos.restart_broker, chaos.restart_database]
    await chaos.start_worker()
    await chaos.start_worker()
    for suffix, body in PLAN.creates():
        await publish(chaos.made, suffix, body)
    for number in range(1, EVENTS + 1):
        await chaos.publish()
        if number % EVENTS_A_FAULT == 0:
            await chaos.chance.choice(faults)()
            # The next fault strikes at work, not at a start: somebody has got on with it since.
            heard = len(chaos.made.received)
            await chaos.publish()
            await chaos.sign_of_life(heard)


async def calm_down(made: Rig, record: Recorder) -> Recording:
    """Give every room a new key, which the recorder cannot miss, and let everything come to rest."""
    async with made.worker():
        await record.round_trip()
        for suffix, body in PLAN.rotations():
            await publish(made, suffix, body)
        return await record.finish()
