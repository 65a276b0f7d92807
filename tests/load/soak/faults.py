"""Every kind of fault, by name. Each is a function that inflicts it and tells whether it struck."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from roomkeys.subjects import events_stream
from tests.faults.machinery.chaos import LEASE_MS, Siege
from tests.faults.machinery.wire import CutAt, Deafen, LoseAnswer, Place, Stall
from tests.harness.clusters import leader_of
from tests.harness.proxy import Fault as WireFault
from tests.harness.proxy import Proxy
from tests.load.soak.world import MONGO_OF_THREE, NATS_OF_THREE, SINGLE, World, away

Fault = Callable[[Siege, World], Awaitable[bool]]

_STRIKE_SECONDS = 10.0
_NATS_PLACES = [
    (b"", True),
    (b"", False),
    (b"PUB chat.user.", True),
    (b'"privateKey":', True),
    (b"PING\r\n", True),
    (b"PONG\r\n", False),
    (b"X-Request-ID", False),
]
_MONGO_PLACES = [
    (b"", True),
    (b"", False),
    (b"commitTransaction", True),
    (b"keyRotation", True),
    (b"aggregate", True),
]


async def killed(siege: Siege, _world: World) -> bool:
    return await siege.kill_worker()


async def stopped(siege: Siege, _world: World) -> bool:
    return await siege.stop_worker()


async def paused(siege: Siege, _world: World) -> bool:
    """Let a worker sleep past its lease, while another is there to take over."""
    await siege.sleep_worker()
    return await _slept(siege)


async def _slept(siege: Siege) -> bool:
    await siege.keep(1)
    await asyncio.sleep(siege.chance.uniform(1, 2.5) * LEASE_MS / 1000)
    await siege.wake_workers()
    return True


async def trapped(siege: Siege, _world: World, *, kind: str, do: str) -> bool:
    """Kill a worker at a place, or let it sleep there past its lease."""
    struck = await siege.trap_worker(kind, do)
    return struck and (do == "kill" or await _slept(siege))


async def broker_killed(siege: Siege, world: World) -> bool:
    assert world.nats is not None
    await away(world.nats, siege.chance)
    return True


async def database_killed(siege: Siege, world: World) -> bool:
    assert world.mongo is not None
    await away(world.mongo, siege.chance)
    return True


async def cut(siege: Siege, _world: World, *, to_broker: bool) -> bool:
    """Cut all connections at once, or some at a place, or in place of an answer."""
    proxy, place = _proxy(siege, to_broker=to_broker)
    how = siege.chance.choice([None, CutAt, CutAt, LoseAnswer])
    if how is None:
        proxy.cut()
        return True
    fault = how(place, siege.chance.choice([1, 3]))
    return await _strike(proxy, fault, lambda: fault.times == 0)


async def stalled(siege: Siege, _world: World, *, to_broker: bool) -> bool:
    """Hold what a connection carries in one direction, and let it go on later."""
    proxy, place = _proxy(siege, to_broker=to_broker)
    fault = Stall(place)
    struck = await _strike(proxy, fault, fault.held.is_set, siege.chance.choice([0.5, 2, 5, 12]))
    fault.released.set()
    return struck


async def deafened(siege: Siege, _world: World, *, to_broker: bool) -> bool:
    """Swallow what a connection carries in one direction until it is cut, or given up by whoever waits there."""
    proxy, place = _proxy(siege, to_broker=to_broker)
    fault = Deafen(place)
    struck = await _strike(proxy, fault, lambda: fault.struck is not None, siege.chance.choice([1, 4, 4, 32]))
    if fault.struck is not None:
        fault.struck.cut()
    return struck


def _proxy(siege: Siege, *, to_broker: bool) -> tuple[Proxy, Place]:
    proxy = siege.chance.choice(siege.nats) if to_broker else siege.mongo
    assert proxy is not None
    pattern, from_client = siege.chance.choice(_NATS_PLACES if to_broker else _MONGO_PLACES)
    return proxy, Place(pattern, siege.chance.randint(0, 40) if pattern else 0, from_client)


async def _strike(proxy: Proxy, fault: WireFault, struck: Callable[[], bool], seconds: float = 0) -> bool:
    """Let a fault strike, and last; tell whether it did."""
    proxy.fault = fault
    with suppress(TimeoutError):
        async with asyncio.timeout(_STRIKE_SECONDS):
            while not struck():  # noqa: ASYNC110 - bytes on their way make no event
                await asyncio.sleep(0.02)
    if struck():
        await asyncio.sleep(seconds)
    proxy.fault = None
    return struck()


async def stepped_down(_siege: Siege, world: World) -> bool:
    assert world.mongos is not None
    await world.mongos.step_down()
    await world.mongos.primary()
    return True


async def primary_killed(siege: Siege, world: World) -> bool:
    assert world.mongos is not None
    await away(await world.mongos.primary(), siege.chance)
    await world.mongos.primary()
    return True


async def leader_killed(siege: Siege, world: World) -> bool:
    """Kill the server that leads the stream of events; another is elected."""
    first = world.nats_urls[0]
    return await _server_killed(
        siege, world, await leader_of(first, events_stream(siege.made.site), lambda name: name != "n0")
    )


async def own_server_killed(siege: Siege, world: World) -> bool:
    """Kill the server that a worker is connected to; it goes to another."""
    assert world.cluster is not None
    try:
        name = await world.cluster.server_of("room-worker")
    except AssertionError:  # no worker is connected just now
        return False
    return await _server_killed(siege, world, name)


async def _server_killed(siege: Siege, world: World, name: str) -> bool:
    assert world.cluster is not None
    await away(world.cluster.servers[name], siege.chance)
    await world.cluster.until_whole()
    return True


_TO_BROKER: dict[str, Fault] = {
    "connections to NATS cut": partial(cut, to_broker=True),
    "connection to NATS stalled": partial(stalled, to_broker=True),
    "connection to NATS half open": partial(deafened, to_broker=True),
}
_EVERYWHERE: dict[str, Fault] = {
    "worker killed": killed,
    "worker stopped": stopped,
    "worker paused beyond its lease": paused,
    "worker killed at a step": partial(trapped, kind="AT_STEP", do="kill"),
    "worker killed at a command": partial(trapped, kind="AT_COMMAND", do="kill"),
    "worker paused at a step": partial(trapped, kind="AT_STEP", do="stop"),
    "worker paused at a command": partial(trapped, kind="AT_COMMAND", do="stop"),
    **_TO_BROKER,
}
_TO_DATABASE: dict[str, Fault] = {
    "connections to MongoDB cut": partial(cut, to_broker=False),
    "connection to MongoDB stalled": partial(stalled, to_broker=False),
    "connection to MongoDB half open": partial(deafened, to_broker=False),
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
    MONGO_OF_THREE: {
        **_EVERYWHERE,
        "primary stepped down": stepped_down,
        "primary killed": primary_killed,
    },
}
"""The faults of each shape of servers."""
