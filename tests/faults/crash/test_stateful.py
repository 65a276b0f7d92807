"""Any sequence of events, faults and workers that come and go, before a judge.

Hypothesis chooses; `STATEFUL_EXAMPLES` asks for so many examples, new ones each time. A failure prints its steps.
"""

import asyncio
import os
import random
import secrets
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.faults.machinery.chaos import PLAN, Siege
from tests.harness.proxy import proxied
from tests.harness.servers import Addresses
from tests.harness.site import rig
from tests.verification.oracle.checks.key_leaks import leaks_in_files
from tests.verification.oracle.judge import find_violations
from tests.verification.oracle.recorder import Recorder, recorder
from tests.verification.oracle.recording import Recording

EXAMPLES = int(os.environ.get("STATEFUL_EXAMPLES", "0"))
FEW = settings(
    max_examples=EXAMPLES or 4,
    stateful_step_count=30 if EXAMPLES else 20,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    print_blob=True,
    phases=[Phase.generate],  # to shrink would take hours, and what is a matter of time does not shrink
    suppress_health_check=list(HealthCheck),
)
PATIENCE = 60.0
SEEDS = st.integers(0, 2**32 - 1)
PLACES = [("AT_STEP", "kill"), ("AT_STEP", "stop"), ("AT_COMMAND", "kill"), ("AT_COMMAND", "stop")]


class Attack(RuleBasedStateMachine):
    """One site for each example, on servers that are everybody's; each machine has its own event loop."""

    addresses: Addresses

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.siege, self.record = self.run(self.set_up())

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    async def set_up(self) -> tuple[Siege, Recorder]:
        site, nats_url, mongo_uri = f"s{secrets.token_hex(4)}", *self.addresses
        made = await self.stack.enter_async_context(rig(nats_url, mongo_uri, f"test_{site}", site))
        await PLAN.create_users(made)
        record = await self.stack.enter_async_context(recorder([nats_url], made.db, site))
        nats, mongo = [await self.stack.enter_async_context(proxied(url)) for url in self.addresses]
        variables = {"NATS_URL": nats.url, "PARTITIONS": "3"}
        variables["MONGO_URI"] = f"{mongo.url.partition('/?')[0]}/?directConnection=true"
        workers = await self.stack.enter_async_context(AsyncExitStack())
        siege = Siege(made, workers, random.Random(0), self.folder, variables, [nats], mongo, small=True)  # noqa: S311
        for suffix, body in PLAN.creates():
            await siege.tell(suffix, body)
        await siege.start_worker()
        return siege, record

    @rule(seed=SEEDS, count=st.sampled_from([1, 1, 2, 8]))
    def a_few_events(self, seed: int, count: int) -> None:
        self.run(self.siege.tell_some(random.Random(seed), count))  # noqa: S311 - a plan

    @rule(seed=SEEDS)
    def an_event_again(self, seed: int) -> None:
        self.run(self.siege.tell_again(random.Random(seed)))  # noqa: S311 - a plan

    @precondition(lambda self: len(self.siege.workers) < 3)
    @rule()
    def worker_starts(self) -> None:
        self.run(self.siege.start_worker())

    @precondition(lambda self: self.siege.workers)
    @rule()
    def worker_stops(self) -> None:
        self.run(self.siege.stop_worker())

    @precondition(lambda self: self.siege.workers)
    @rule()
    def worker_is_killed(self) -> None:
        self.run(self.siege.kill_worker())

    @precondition(lambda self: self.siege.workers)
    @rule()
    def worker_falls_asleep(self) -> None:
        self.run(self.siege.sleep_worker())

    @precondition(lambda self: self.siege.asleep)
    @rule()
    def workers_wake(self) -> None:
        self.run(self.siege.wake_workers())

    @precondition(lambda self: len(self.siege.workers) < 3)
    @rule(place=st.sampled_from(PLACES), seed=SEEDS)
    def worker_is_trapped(self, place: tuple[str, str], seed: int) -> None:
        self.run(self.trap_worker(place, seed))

    async def trap_worker(self, place: tuple[str, str], seed: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.siege.tell_some(random.Random(seed), 6))  # noqa: S311 - a plan
            tasks.create_task(self.siege.trap_worker(*place))

    @rule()
    def connections_to_the_broker_are_cut(self) -> None:
        self.siege.nats[0].cut()

    @rule()
    def connections_to_the_database_are_cut(self) -> None:
        assert self.siege.mongo is not None
        self.siege.mongo.cut()

    def teardown(self) -> None:
        """Let it come to rest, and judge."""
        try:
            recording: Recording = self.run(self.siege.calm_down(self.record, PATIENCE))
            assert find_violations(recording) == []
            assert leaks_in_files(recording, sorted(self.folder.iterdir())) == []
            assert len(recording.events) == len(self.siege.told)
        finally:
            self.run(self.stack.aclose())
            self.runner.close()


@pytest.mark.timeout(3_600 if EXAMPLES else 300)
def test_whatever_comes_in_whatever_order_every_invariant_holds(servers: Addresses) -> None:
    Attack.addresses = servers
    run_state_machine_as_test(Attack, settings=FEW)
