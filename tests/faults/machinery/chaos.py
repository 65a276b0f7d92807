"""Chaos: workers in separate processes, behind proxies, under random faults of every kind.

One random number generator makes every choice, so that a seed reproduces a run.
"""

import asyncio
import json
import random
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.machinery.limits import SMALL_LIMITS
from tests.harness.forked_worker import WorkerProcess
from tests.harness.processes import PATIENCE, child
from tests.harness.proxy import Proxy
from tests.harness.site import Rig
from tests.verification.oracle.plan import Body, Plan, publish
from tests.verification.oracle.recorder import Recorder
from tests.verification.oracle.recording import Recording

LEASE_MS = 2_000
"""How long a worker may be silent here, so that takeovers come soon."""

PLAN = Plan(tuple(f"r{number}" for number in range(6)), tuple(f"u{number}" for number in range(10)))
HOUR = 3_600
STEPS = ["read", "apply", "deliver", "settle", "announce", "tidy"]
COMMANDS = ["update", "insert", "delete", "aggregate", "commitTransaction"]
_SEEN_SECONDS = 6.0
_MOST_WORKERS = 3


@dataclass
class Siege:
    """One site, its workers and what stands before its servers; `variables` are every worker's.

    `small`: some workers have small numbers. `clocks`: some have a clock that jumps.
    """

    made: Rig
    stack: AsyncExitStack
    chance: random.Random
    folder: Path
    variables: dict[str, str]
    nats: Sequence[Proxy]
    mongo: Proxy | None = None
    small: bool = False
    clocks: bool = False
    workers: list[WorkerProcess] = field(default_factory=list)
    asleep: list[WorkerProcess] = field(default_factory=list)
    told: list[tuple[str, Body | bytes, str]] = field(default_factory=list)
    jumped: int = 0
    started: int = 0

    async def start_worker(self, **traps: str) -> WorkerProcess:
        """Start a worker that is like no other: driver, batches, numbers and clock are chosen."""
        log = self.folder / f"worker{self.started}.log"
        self.started += 1
        variables = {**self._settings(), **self.variables, **traps}
        worker = await self.stack.enter_async_context(child(self.made, log, **variables))
        self.workers.append(worker)
        return worker

    def _settings(self) -> dict[str, str]:
        limits: dict[str, float] = {
            "lease_ms": LEASE_MS,
            "confirm_s": self.chance.choice([1, 10]),
            "tidy_s": self.chance.choice([0.05, 1]),
        }
        if self.small and self.chance.random() < 0.75:
            limits |= SMALL_LIMITS
        settings = {
            "LIMITS": json.dumps(limits),
            "MONGO_DRIVER": self.chance.choice(["motor", "pymongo"]),
            "MAX_BATCH_EVENTS": self.chance.choice(["1", "3", "256"]),
        }
        if self.clocks and self.chance.random() < 0.5:
            self.jumped += 1
            settings["CLOCK"] = ",".join(str(self.chance.randint(-3 * HOUR, 3 * HOUR)) for _ in range(4))
        return settings

    async def keep(self, count: int) -> None:
        """Have so many workers at work, and no more than a few; none of them has ended by itself."""
        self.require_alive()
        while len(self.workers) > _MOST_WORKERS:
            await self.kill_worker()
        while len(self.workers) < count:
            await self.start_worker()

    def require_alive(self) -> None:
        """Require that no worker has ended that was not made to."""
        ended = [worker.returncode for worker in [*self.workers, *self.asleep] if worker.returncode is not None]
        assert not ended, f"workers ended by themselves with {ended}"

    async def kill_worker(self) -> bool:
        """Kill a worker."""
        worker = self.workers.pop(self.chance.randrange(len(self.workers)))
        with suppress(ProcessLookupError):
            worker.kill()
        await worker.wait()
        return True

    async def stop_worker(self) -> bool:
        """Stop a worker as an operator does; it ends as it should."""
        await self._end(self.workers.pop(self.chance.randrange(len(self.workers))))
        return True

    async def _end(self, worker: WorkerProcess) -> None:
        with suppress(ProcessLookupError):
            worker.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(worker.wait(), PATIENCE)
        assert code in {0, -signal.SIGTERM}, f"a worker that was asked to stop ended with {code}"

    async def sleep_worker(self) -> bool:
        """Let a worker fall asleep where it is."""
        worker = self.workers.pop(self.chance.randrange(len(self.workers)))
        worker.send_signal(signal.SIGSTOP)
        self.asleep.append(worker)
        return True

    async def wake_workers(self) -> None:
        """Wake all that sleep."""
        for worker in self.asleep:
            with suppress(ProcessLookupError):
                worker.send_signal(signal.SIGCONT)
        self.workers += self.asleep
        self.asleep = []

    async def trap_worker(self, kind: str, do: str) -> bool:
        """Start a worker that is killed or falls asleep at a step or command; tell whether it came there."""
        name = self.chance.choice(STEPS if kind == "AT_STEP" else COMMANDS)
        place = f"{name}:{self.chance.choice(['before', 'after'])}"
        worker = await self.start_worker(**{kind: f"{place}:{self.chance.randint(1, 4)}", "DO": do})
        self.workers.remove(worker)
        if not await _came_to(worker, place):
            worker.kill()  # or its trap would spring when nobody is there to wake it
            return False
        if do == "stop":
            self.asleep.append(worker)
        return True

    async def tell(self, suffix: str, body: Body | bytes, request_id: str | None = None) -> None:
        """Publish an event."""
        self.told.append((suffix, body, await publish(self.made, suffix, body, request_id)))

    async def tell_some(self, chance: random.Random, count: int) -> None:
        """Publish events, all at once."""
        async with asyncio.TaskGroup() as tasks:
            for suffix, body in [PLAN.event(chance) for _ in range(count)]:
                tasks.create_task(self.tell(suffix, body))

    async def tell_again(self, chance: random.Random) -> None:
        """Publish an event again, as a producer does that got no answer: the same request, or a new one."""
        suffix, body, request_id = chance.choice(self.told)
        await self.tell(suffix, body, chance.choice([request_id, None]))

    async def calm_down(self, record: Recorder, patience: float) -> Recording:
        """Give every room a new key, which the recorder cannot miss, and let everything come to rest."""
        await self.wake_workers()
        await self.keep(1)
        await record.round_trip()
        for suffix, body in PLAN.rotations():
            await self.tell(suffix, body)
        try:
            recording = await record.finish(patience)
        except AssertionError as error:
            raise AssertionError(f"{error}; {await self.state()}") from None
        self.require_alive()
        for worker in self.workers:
            await self._end(worker)
        return recording

    async def state(self) -> str:
        """Tell who is there and owns what, and let the workers write down what they are doing."""
        cursors = await self.made.db.room_worker_cursors.find({}).to_list(None)
        replicas = await self.made.db.room_worker_replicas.find({}).to_list(None)
        for worker in (worker for worker in self.workers if worker.returncode is None):
            worker.send_signal(signal.SIGUSR1)
        await asyncio.sleep(1)
        ended = [worker.returncode for worker in self.workers]
        return f"workers ended with {ended}; cursors: {cursors}; replicas: {replicas}"


async def _came_to(worker: WorkerProcess, place: str) -> bool:
    assert worker.stdout is not None
    with suppress(TimeoutError):
        async with asyncio.timeout(_SEEN_SECONDS):
            return place in (await worker.stdout.readline()).decode()
    return False
