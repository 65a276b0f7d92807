"""A backlog: worked off with flat memory, healthy events not held up by poison, whoever comes and goes."""

import random
import signal
from collections import Counter, deque
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import orjson
import pytest

from roomkeys.subjects import dead_letter_stream, event_subject
from tests.harness.processes import child
from tests.harness.site import Rig, rig
from tests.load import seed
from tests.load.memory import resident_mib
from tests.load.sizes import size
from worker.local.servers import MongoServer, NatsServer

BACKLOG = size(100_000, 4_000)
EVENTS = size(10_000, 500)
ROOMS = 200
MEMBERS = 10
GROWTH_MIB = 48
RESULTS = ["chat.user.*.response.*"]
PATIENCE = 600.0
POISON: list[tuple[bytes, str]] = [
    (b"{", "invalid_event"),
    (b"[1]", "invalid_event"),
    (b'{"roomId":"room1","requester":5,"accounts":[]}', "invalid_event"),
    (b'{"roomId":"a b","requester":"m0","accounts":[]}', "invalid_account"),
    (b'{"roomId":"nowhere","requester":"m0","account":"m1"}', "room_not_found"),
    (b'{"roomId":"room1","requester":"m0","account":"stranger"}', "user_not_found"),
]


async def publish(made: Rig, suffix: str, bodies: list[bytes]) -> list[str]:
    """Publish events as fast as the stream takes them; return their request ids."""
    jetstream, ids = made.nc.jetstream(publish_async_max_pending=1_000), [str(uuid4()) for _ in bodies]
    for request_id, body in zip(ids, bodies, strict=True):
        headers = {"X-Request-ID": request_id}
        await jetstream.publish_async(event_subject(made.site, suffix), body, headers=headers, wait_stall=60)
    await jetstream.publish_async_completed()
    return ids


async def rooms(made: Rig) -> None:
    await seed.people(made.db, MEMBERS)
    for number in range(ROOMS):
        await seed.room(made.db, made.site, f"room{number}", MEMBERS)


async def answered(made: Rig, ids: list[str]) -> Counter[str]:
    """Wait for all results and count what they say."""
    waiting = deque(ids)

    def nobody_waits() -> bool:
        while waiting and waiting[0] in made.results:
            waiting.popleft()
        return not waiting

    await made.until(nobody_waits, f"{len(ids)} results", PATIENCE)
    return Counter(str(made.results[request_id].get("reason", "ok")) for request_id in ids)


def rotations(count: int) -> list[bytes]:
    return [orjson.dumps({"roomId": f"room{number % ROOMS}", "requester": "m0"}) for number in range(count)]


@pytest.mark.timeout(900)
async def test_a_backlog_is_worked_off_with_flat_memory(
    own_nats: NatsServer, own_mongo: MongoServer, site: str
) -> None:
    async with rig(own_nats.url, own_mongo.uri, "chat", site, hears=RESULTS) as made:
        await rooms(made)
        ids = await publish(made, "key.rotate", rotations(BACKLOG))
        async with child(made) as worker:
            await made.until(lambda: len(made.results) >= BACKLOG // 4, "a quarter of the results", PATIENCE)
            early = resident_mib(worker.pid)
            assert await answered(made, ids) == {"ok": BACKLOG}
            late = resident_mib(worker.pid)
        versions = [room["encKey"]["ver"] async for room in made.db.rooms.find({}, {"encKey.ver": 1})]
        assert versions == [BACKLOG // ROOMS] * ROOMS, "each event is one rotation, whatever shared a batch"
    assert late - early < GROWTH_MIB, f"{early} MiB after a quarter, {late} MiB at the end"


@pytest.mark.timeout(900)
async def test_healthy_events_flow_beside_poison_while_replicas_come_and_go(
    own_nats: NatsServer, own_mongo: MongoServer, site: str
) -> None:
    chance = random.Random(5)  # noqa: S311 - a plan
    poison = [chance.choice(POISON) if number % 5 == 0 else None for number in range(EVENTS)]
    healthy = rotations(EVENTS)
    bodies = [bad[0] if bad else healthy[number] for number, bad in enumerate(poison)]
    async with rig(own_nats.url, own_mongo.uri, "chat", site, hears=RESULTS) as made, AsyncExitStack() as stack:
        await rooms(made)
        workers = [await stack.enter_async_context(child(made)) for _ in range(2)]
        ids = await publish(made, "member.remove", [])
        for start in range(0, EVENTS, EVENTS // 5):
            some = range(start, start + EVENTS // 5)
            for number in some:
                suffix = "member.remove" if poison[number] else "key.rotate"
                ids += await publish(made, suffix, [bodies[number]])
            workers.pop(0).send_signal(chance.choice([signal.SIGKILL, signal.SIGTERM]))
            workers.append(await stack.enter_async_context(child(made)))
        asked = [request_id for request_id, bad in zip(ids, poison, strict=True) if bad is None]
        assert await answered(made, asked) == {"ok": len(asked)}
        letters = await dead_letters(made, sum(bad is not None for bad in poison))
    assert letters == Counter(bad[1] for bad in poison if bad), "each poison event once"


async def dead_letters(made: Rig, count: int) -> Counter[str]:
    """Count the dead letters by reason, once there are so many."""
    subscription = await made.nc.jetstream().subscribe(
        f"chat.room.deadletter.{made.site}", stream=dead_letter_stream(made.site), ordered_consumer=True
    )
    reasons: Counter[str] = Counter()
    while reasons.total() < count:
        message: Any = await subscription.next_msg(timeout=60)
        reasons[message.headers["Room-Worker-Reason"]] += 1
    state = (await made.nc.jetstream().stream_info(dead_letter_stream(made.site))).state
    assert state.messages == count
    return reasons
