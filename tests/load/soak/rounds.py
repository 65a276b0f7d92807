"""A round: one fault after another while events go on, then a last rotation of every room, then the judgement."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from pymongo.errors import PyMongoError

from tests.faults.machinery.chaos import PLAN, Siege
from tests.harness.proxy import proxied
from tests.harness.site import rig
from tests.load.soak.faults import FAULTS
from tests.load.soak.servers import DENIED, MONGO_OF_THREE, NATS_OF_THREE, SINGLE, Servers, run_servers
from tests.verification.oracle.checks.key_leaks import leaks_in_files
from tests.verification.oracle.judge import find_violations
from tests.verification.oracle.recorder import Recorder, recorder
from tests.verification.oracle.recording import Recording

PATIENCE = 60.0
_FAULTS_PER_ROUND = 7
_ROUND_SECONDS = 400.0


@dataclass(frozen=True, slots=True)
class Round:
    """What a seed chooses for a round; it also chooses the events, and where exactly each fault is injected.

    `shape` names the servers. `small`: some workers have small limits. `denied`: the broker does not let the
    worker send keys to one account. `other_writer`: another program writes to the rooms. `clocks`: the clocks of
    some workers jump.
    """

    seed: int
    shape: str
    small: bool
    denied: bool
    other_writer: bool
    clocks: bool
    partitions: int
    faults: tuple[str, ...]


@dataclass
class Outcome:
    """The outcome of a round; `faults` counts those that were injected, `violations` has what the oracle found.

    If the round failed before it could be judged, `violations` has the error.
    """

    faults: Counter[str] = field(default_factory=Counter)
    events: int = 0
    keys: int = 0
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0
    versions: tuple[str, str] = ("", "")


def round_of(seed: int) -> Round:
    """Return the round of a seed."""
    chance = random.Random(seed)  # noqa: S311 - a plan
    shape = chance.choices([SINGLE, NATS_OF_THREE, MONGO_OF_THREE], [4, 1, 1])[0]
    some = [chance.random() < often for often in (0.5, 0.25, 0.4, 0.3)]
    # Faults that only this shape has are in each of its rounds.
    own = sorted(FAULTS[shape].keys() - FAULTS[SINGLE].keys())
    others = sorted(FAULTS[shape].keys() & FAULTS[SINGLE].keys())
    faults = chance.sample(own + chance.sample(others, _FAULTS_PER_ROUND - len(own)), _FAULTS_PER_ROUND)
    small, denied, other_writer, clocks = some
    denied = denied and shape != NATS_OF_THREE
    return Round(seed, shape, small, denied, other_writer, clocks, chance.choice([1, 3, 8]), tuple(faults))


async def play(plan: Round, folder: Path) -> tuple[Outcome, Recording | None]:
    """Play a round in a folder; return None instead of a recording if the round failed before it began."""
    began, outcome, recording = time.monotonic(), Outcome(), None
    try:
        async with asyncio.timeout(_ROUND_SECONDS), _set_up(plan, folder, outcome) as (chaos, record, servers):
            recording = record.recording
            await _inject_faults(chaos, servers, plan, outcome)
            recording = await chaos.calm_down(record, PATIENCE)
            outcome.versions = await _versions(chaos)
        outcome.violations = _violations(recording, folder)
        outcome.events, outcome.keys = len(recording.events), len(recording.key_messages)
        if chaos.jumped:
            outcome.faults["clock of a worker jumps"] = chaos.jumped
    except (Exception, ExceptionGroup) as error:  # noqa: BLE001 - any error is the outcome of the round
        outcome.violations = [f"the round failed: {error!r}"]
    outcome.seconds = time.monotonic() - began
    return outcome, recording


def _violations(recording: Recording, folder: Path) -> list[str]:
    found = [*find_violations(recording), *leaks_in_files(recording, folder.glob("worker*.log"))]
    return list(map(str, found))


@asynccontextmanager
async def _set_up(plan: Round, folder: Path, outcome: Outcome) -> AsyncIterator[tuple[Siege, Recorder, Servers]]:
    """Set up servers, proxies and a recorder; `_inject_faults` starts the workers."""
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(run_servers(plan.shape, folder, denied=plan.denied))
        urls, uri, site = servers.nats_urls, servers.mongo_uri, f"s{plan.seed}"
        made = await stack.enter_async_context(rig(urls[0], uri, "chat", site, replicas=servers.replicas))
        await PLAN.create_users(made)
        record = await stack.enter_async_context(recorder(urls, made.db, site))
        if plan.denied:
            record.recording.denied = frozenset({DENIED})
            outcome.faults["recipient denied by the broker"] += 1
        nats = [await stack.enter_async_context(proxied(url)) for url in servers.worker_urls]
        variables = {"PARTITIONS": str(plan.partitions), "NATS_URL": ",".join(proxy.url for proxy in nats)}
        mongo = None
        if plan.shape != MONGO_OF_THREE:
            mongo = await stack.enter_async_context(proxied(uri))
            variables["MONGO_URI"] = f"{mongo.url.partition('/?')[0]}/?directConnection=true"
        variables |= servers.variables
        chance = random.Random(plan.seed)  # noqa: S311 - a plan
        workers = await stack.enter_async_context(AsyncExitStack())
        chaos = Siege(made, workers, chance, folder, variables, nats, mongo, small=plan.small, clocks=plan.clocks)
        yield chaos, record, servers


async def _inject_faults(chaos: Siege, servers: Servers, plan: Round, outcome: Outcome) -> None:
    """Inject one fault after another while events go on, and perhaps another program writes to the rooms."""
    for suffix, body in PLAN.creates():
        await chaos.tell(suffix, body)
    over = asyncio.Event()
    work = [_publish_events(chaos, random.Random(plan.seed), outcome, over)]  # noqa: S311 - a plan
    if plan.other_writer:
        work.append(_write_rooms(chaos, over))
        outcome.faults["rooms written by another service"] += 1
    async with asyncio.TaskGroup() as tasks:
        for background in work:
            tasks.create_task(background)
        for name in plan.faults:
            await chaos.keep(2)
            outcome.faults[name] += await FAULTS[plan.shape][name](chaos, servers)
        over.set()


async def _publish_events(chaos: Siege, chance: random.Random, outcome: Outcome, over: asyncio.Event) -> None:
    """Publish events until `over` is set, some of them together, some of them twice."""
    while not over.is_set():
        await chaos.tell_some(chance, chance.choice([1, 1, 1, 2, 8]))
        if chance.random() < 0.1:
            await chaos.tell_again(chance)
            outcome.faults["event published again"] += 1
        await asyncio.sleep(chance.uniform(0, 0.2))


async def _write_rooms(chaos: Siege, over: asyncio.Event) -> None:
    """Write to three rooms a hundred times per second, as the service that stores their last message does."""
    rooms = chaos.made.db.rooms
    for number in count():
        if over.is_set():
            return
        with suppress(PyMongoError):
            await rooms.update_one({"_id": PLAN.rooms[number % 3]}, {"$set": {"lastMsgId": str(number)}})
        await asyncio.sleep(0.01)


async def _versions(chaos: Siege) -> tuple[str, str]:
    about = await chaos.made.db.client.admin.command("buildInfo")
    return str(chaos.made.nc._server_info["version"]), str(about["version"])
