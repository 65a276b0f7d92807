"""A round: a site under attack for a while, calmed down, and judged. Its seed says everything about it."""

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
from tests.load.soak.world import DENIED, MONGO_OF_THREE, NATS_OF_THREE, SINGLE, World, world
from tests.verification.oracle.judge import judge
from tests.verification.oracle.key_leaks import side_door_of_files
from tests.verification.oracle.recorder import Recorder, recorder
from tests.verification.oracle.recording import Recording

PATIENCE = 60.0
_FAULTS_A_ROUND = 7
_ROUND_SECONDS = 400.0


@dataclass(frozen=True, slots=True)
class Round:
    """What a seed says of a round; which event and which place comes when is the seed's choice as well."""

    seed: int
    shape: str
    small: bool
    denied: bool
    foreign: bool
    clocks: bool
    partitions: int
    faults: tuple[str, ...]


@dataclass
class Outcome:
    """What came of a round; `faults` are those that struck, `violations` what the judge says, or why it cannot."""

    faults: Counter[str] = field(default_factory=Counter)
    events: int = 0
    keys: int = 0
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0
    versions: tuple[str, str] = ("", "")


def round_of(seed: int) -> Round:
    """Return what a seed says."""
    chance = random.Random(seed)  # noqa: S311 - a plan
    shape = chance.choices([SINGLE, NATS_OF_THREE, MONGO_OF_THREE], [4, 1, 1])[0]
    some = [chance.random() < often for often in (0.5, 0.25, 0.4, 0.3)]
    # What only this shape has comes in each of its rounds.
    own = sorted(FAULTS[shape].keys() - FAULTS[SINGLE].keys())
    others = sorted(FAULTS[shape].keys() & FAULTS[SINGLE].keys())
    faults = chance.sample(own + chance.sample(others, _FAULTS_A_ROUND - len(own)), _FAULTS_A_ROUND)
    small, denied, foreign, clocks = some
    denied = denied and shape != NATS_OF_THREE
    return Round(seed, shape, small, denied, foreign, clocks, chance.choice([1, 3, 8]), tuple(faults))


async def play(plan: Round, folder: Path) -> tuple[Outcome, Recording | None]:
    """Play a round; what is left of it is below the folder."""
    began, outcome, recording = time.monotonic(), Outcome(), None
    try:
        async with asyncio.timeout(_ROUND_SECONDS), besieged(plan, folder, outcome) as (siege, record, of_round):
            recording = record.recording
            await attack(siege, of_round, plan, outcome)
            recording = await siege.calm_down(record, PATIENCE)
            outcome.versions = await _versions(siege)
        outcome.violations = _violations(recording, folder)
        outcome.events, outcome.keys = len(recording.events), len(recording.keys)
        if siege.jumped:
            outcome.faults["clock of a worker jumps"] = siege.jumped
    except (Exception, ExceptionGroup) as error:  # noqa: BLE001 - whatever it is, it is what came of the round
        outcome.violations = [f"the round did not come to its end: {error!r}"]
    outcome.seconds = time.monotonic() - began
    return outcome, recording


def _violations(recording: Recording, folder: Path) -> list[str]:
    found = [*judge(recording), *side_door_of_files(recording, folder.glob("worker*.log"))]
    return [f"{one.invariant}: {one.text}" for one in found]


@asynccontextmanager
async def besieged(plan: Round, folder: Path, outcome: Outcome) -> AsyncIterator[tuple[Siege, Recorder, World]]:
    """Set up servers, proxies, a recorder and two workers."""
    async with AsyncExitStack() as stack:
        made_world = await stack.enter_async_context(world(plan.shape, folder, denied=plan.denied))
        urls, uri, site = made_world.nats_urls, made_world.mongo_uri, f"s{plan.seed}"
        made = await stack.enter_async_context(rig(urls[0], uri, "chat", site, replicas=made_world.replicas))
        await PLAN.settle_in(made)
        record = await stack.enter_async_context(recorder(urls, made.db, site))
        if plan.denied:
            record.recording.denied = frozenset({DENIED})
            outcome.faults["recipient denied by the broker"] += 1
        nats = [await stack.enter_async_context(proxied(url)) for url in made_world.worker_urls]
        variables = {"PARTITIONS": str(plan.partitions), "NATS_URL": ",".join(proxy.url for proxy in nats)}
        mongo = None
        if plan.shape != MONGO_OF_THREE:
            mongo = await stack.enter_async_context(proxied(uri))
            variables["MONGO_URI"] = f"{mongo.url.partition('/?')[0]}/?directConnection=true"
        variables |= made_world.variables
        chance = random.Random(plan.seed)  # noqa: S311 - a plan
        workers = await stack.enter_async_context(AsyncExitStack())
        siege = Siege(made, workers, chance, folder, variables, nats, mongo, small=plan.small, clocks=plan.clocks)
        yield siege, record, made_world


async def attack(siege: Siege, of_round: World, plan: Round, outcome: Outcome) -> None:
    """Inflict one fault after another while events go on, and perhaps another service writes to the rooms."""
    for suffix, body in PLAN.creates():
        await siege.tell(suffix, body)
    over = asyncio.Event()
    work = [_events(siege, random.Random(plan.seed), outcome, over)]  # noqa: S311 - a plan
    if plan.foreign:
        work.append(_another_service(siege, over))
        outcome.faults["rooms written by another service"] += 1
    async with asyncio.TaskGroup() as tasks:
        for background in work:
            tasks.create_task(background)
        for name in plan.faults:
            await siege.keep(2)
            outcome.faults[name] += await FAULTS[plan.shape][name](siege, of_round)
        over.set()


async def _events(siege: Siege, chance: random.Random, outcome: Outcome, over: asyncio.Event) -> None:
    """Publish events until it is over, some at once, some again; each until the stream has it."""
    while not over.is_set():
        await siege.tell_some(chance, chance.choice([1, 1, 1, 2, 8]))
        if chance.random() < 0.1:
            await siege.tell_again(chance)
            outcome.faults["event published again"] += 1
        await asyncio.sleep(chance.uniform(0, 0.2))


async def _another_service(siege: Siege, over: asyncio.Event) -> None:
    """Write to the rooms as the service does that notes their last message: a hundred times a second."""
    rooms = siege.made.db.rooms
    for number in count():
        if over.is_set():
            return
        with suppress(PyMongoError):
            await rooms.update_one({"_id": PLAN.rooms[number % 3]}, {"$set": {"lastMsgId": str(number)}})
        await asyncio.sleep(0.01)


async def _versions(siege: Siege) -> tuple[str, str]:
    about = await siege.made.db.client.admin.command("buildInfo")
    return str(siege.made.nc._server_info["version"]), str(about["version"])
