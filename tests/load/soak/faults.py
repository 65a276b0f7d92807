"""Every kind of fault, by name. Each is a function that injects it and returns whether it took effect."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from pymongo.errors import PyMongoError

from roomkeys.subjects import events_stream
from tests.faults.machinery.chaos import LEASE_MS, PLAN, Siege
from tests.faults.machinery.refusals import SHAPES, Refusal, Refusals
from tests.faults.machinery.wire import CutAt, Deafen, LoseAnswer, Place, Stall
from tests.harness.clusters import leader_of
from tests.harness.proxy import Fault as WireFault
from tests.harness.proxy import Proxy
from tests.load.soak.servers import MONGO_OF_THREE, NATS_OF_THREE, SINGLE, Servers, away

Fault = Callable[[Siege, Servers], Awaitable[bool]]

_TRIGGER_SECONDS = 10.0
_NATS_PLACES = [
    (b"", True),
    (b"", False),
    (b"PUB chat.user.", True),
    (b'"privateKey":', True),
    (b"PING\r\n", True),
    (b"PONG\r\n", False),
    (b"X-Request-ID", False),
]
_CODES = [8, 13, 50, 64, 100, 112, 121, 189, 251, 371, 8000, 10107, 11000, 11602, 14031]
_MONGO_PLACES = [(b"", True), (b"", False), (b"commitTransaction", True), (b"keyRotation", True), (b"aggregate", True)]


async def killed(chaos: Siege, _servers: Servers) -> bool:
    return await chaos.kill_worker()


async def stopped(chaos: Siege, _servers: Servers) -> bool:
    return await chaos.stop_worker()


async def paused(chaos: Siege, _servers: Servers) -> bool:
    """Pause a worker beyond its lease while another one can take over."""
    await chaos.sleep_worker()
    return await _resume_later(chaos)


async def _resume_later(chaos: Siege) -> bool:
    await chaos.keep(1)
    await asyncio.sleep(chaos.chance.uniform(1, 2.5) * LEASE_MS / 1000)
    await chaos.wake_workers()
    return True


async def stopped_at(chaos: Siege, _servers: Servers, *, kind: str, do: str) -> bool:
    """Kill a worker at a step or a command, or pause it there beyond its lease."""
    reached = await chaos.trap_worker(kind, do)
    return reached and (do == "kill" or await _resume_later(chaos))


async def broker_killed(chaos: Siege, servers: Servers) -> bool:
    assert servers.nats is not None
    await away(servers.nats, chaos.chance)
    return True


async def database_killed(chaos: Siege, servers: Servers) -> bool:
    assert servers.mongo is not None
    await away(servers.mongo, chaos.chance)
    return True


async def cut(chaos: Siege, _servers: Servers, *, to_broker: bool) -> bool:
    """Cut all connections now, or some of them at certain bytes, or just before an answer."""
    proxy, place = _proxy(chaos, to_broker=to_broker)
    how = chaos.chance.choice([None, CutAt, CutAt, LoseAnswer])
    if how is None:
        proxy.cut()
        return True
    fault = how(place, chaos.chance.choice([1, 3]))
    return await _trigger(proxy, fault, lambda: fault.times == 0)


async def stalled(chaos: Siege, _servers: Servers, *, to_broker: bool) -> bool:
    """Hold the bytes of a connection in one direction, and release them later."""
    proxy, place = _proxy(chaos, to_broker=to_broker)
    fault = Stall(place)
    triggered = await _trigger(proxy, fault, fault.held.is_set, chaos.chance.choice([0.5, 2, 5, 12]))
    fault.released.set()
    return triggered


async def half_open(chaos: Siege, _servers: Servers, *, to_broker: bool) -> bool:
    """Drop the bytes of a connection in one direction until it is cut or its peer gives it up."""
    proxy, place = _proxy(chaos, to_broker=to_broker)
    fault = Deafen(place)
    triggered = await _trigger(proxy, fault, lambda: fault.struck is not None, chaos.chance.choice([1, 4, 4, 32]))
    if fault.struck is not None:
        fault.struck.cut()
    return triggered


async def refused(chaos: Siege, _servers: Servers) -> bool:
    """Answer the transactions of all workers with an error of the server."""
    assert chaos.mongo is not None
    refusal = Refusal(chaos.chance.choice(SHAPES)(chaos.chance.choice(_CODES)), chaos.chance.choice([0.05, 1, 8]))
    return await _trigger(chaos.mongo, Refusals(refusal), lambda: bool(refusal.until), refusal.seconds)


async def account_refused(chaos: Siege, _servers: Servers) -> bool:
    """Let the database refuse every membership of one account."""
    account = chaos.chance.choice(PLAN.accounts)
    try:
        await chaos.made.db.command({"collMod": "subscriptions", "validator": {"u.account": {"$ne": account}}})
        await asyncio.sleep(chaos.chance.choice([0.05, 2, 8]))
        await chaos.made.db.command({"collMod": "subscriptions", "validator": {}})
    except PyMongoError:  # the collection does not exist yet
        return False
    return True


def _proxy(chaos: Siege, *, to_broker: bool) -> tuple[Proxy, Place]:
    proxy = chaos.chance.choice(chaos.nats) if to_broker else chaos.mongo
    assert proxy is not None
    pattern, from_client = chaos.chance.choice(_NATS_PLACES if to_broker else _MONGO_PLACES)
    return proxy, Place(pattern, chaos.chance.randint(0, 40) if pattern else 0, from_client)


async def _trigger(proxy: Proxy, fault: WireFault, triggered: Callable[[], bool], seconds: float = 0) -> bool:
    """Put a fault on the wire, let it last, and return whether it took effect."""
    proxy.fault = fault
    with suppress(TimeoutError):
        async with asyncio.timeout(_TRIGGER_SECONDS):
            while not triggered():  # noqa: ASYNC110 - bytes on their way make no event
                await asyncio.sleep(0.02)
    if triggered():
        await asyncio.sleep(seconds)
    proxy.fault = None
    return triggered()


async def stepped_down(_chaos: Siege, servers: Servers) -> bool:
    assert servers.mongos is not None
    await servers.mongos.step_down()
    await servers.mongos.primary()
    return True


async def primary_killed(chaos: Siege, servers: Servers) -> bool:
    assert servers.mongos is not None
    await away(await servers.mongos.primary(), chaos.chance)
    await servers.mongos.primary()
    return True


async def leader_killed(chaos: Siege, servers: Servers) -> bool:
    """Kill the server that leads the events stream; the others elect another leader."""
    first = servers.nats_urls[0]
    return await _server_killed(
        chaos, servers, await leader_of(first, events_stream(chaos.made.site), lambda name: name != "n0")
    )


async def own_server_killed(chaos: Siege, servers: Servers) -> bool:
    """Kill the server that a worker is connected to; the worker connects to another one."""
    assert servers.cluster is not None
    try:
        name = await servers.cluster.server_of("room-worker")
    except AssertionError:  # no worker is connected at this moment
        return False
    return await _server_killed(chaos, servers, name)


async def _server_killed(chaos: Siege, servers: Servers, name: str) -> bool:
    assert servers.cluster is not None
    await away(servers.cluster.servers[name], chaos.chance)
    await servers.cluster.until_whole()
    return True


_TO_BROKER: dict[str, Fault] = {
    "connections to NATS cut": partial(cut, to_broker=True),
    "connection to NATS stalled": partial(stalled, to_broker=True),
    "connection to NATS half open": partial(half_open, to_broker=True),
}
_EVERYWHERE: dict[str, Fault] = {
    "worker killed": killed,
    "worker stopped": stopped,
    "worker paused beyond its lease": paused,
    "worker killed at a step": partial(stopped_at, kind="AT_STEP", do="kill"),
    "worker killed at a command": partial(stopped_at, kind="AT_COMMAND", do="kill"),
    "worker paused at a step": partial(stopped_at, kind="AT_STEP", do="stop"),
    "worker paused at a command": partial(stopped_at, kind="AT_COMMAND", do="stop"),
    **_TO_BROKER,
}
_TO_DATABASE: dict[str, Fault] = {
    "connections to MongoDB cut": partial(cut, to_broker=False),
    "connection to MongoDB stalled": partial(stalled, to_broker=False),
    "connection to MongoDB half open": partial(half_open, to_broker=False),
    "transactions refused": refused,
    "memberships of an account refused": account_refused,
}
FAULTS: dict[str, dict[str, Fault]] = {
    SINGLE: {
        **_EVERYWHERE,
        **_TO_DATABASE,
        "broker killed and restarted": broker_killed,
        "database killed and restarted": database_killed,
    },
    NATS_OF_THREE: {
        **_EVERYWHERE,
        **_TO_DATABASE,
        "stream's leader killed": leader_killed,
        "worker's own NATS server killed": own_server_killed,
    },
    MONGO_OF_THREE: {**_EVERYWHERE, "primary stepped down": stepped_down, "primary killed": primary_killed},
}
"""The faults of each shape: single servers, three NATS servers, three MongoDB servers."""
