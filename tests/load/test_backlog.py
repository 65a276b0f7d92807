"""A backlog is processed with flat memory, and valid events pass among invalid ones while replicas restart."""

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
INVALID: list[tuple[bytes, str]] = [
    (b"{", "invalid_event"),
    (b"[1]", "invalid_event"),
    (b'{"roomId":"room1","requester":5,"accounts":[]}', "invalid_event"),
    (b'{"roomId":"a b","requester":"m0","accounts":[]}', "invalid_room"),
    (b'{"roomId":"nowhere","requester":"m0","account":"m1"}', "room_not_found"),
    (b'{"roomId":"room1","requester":"m0","account":"nobody"}', "user_not_found"),
]


async def publish(made: Rig, suffix: str, bodies: list[bytes]) -> list[str]:
    """Publish events as fast as the stream accepts them; return their request ids."""
    jetstream, ids = made.nc.jetstream(publish_async_max_pending=1_000), [str(uuid4()) for _ in bodies]
    for request_id, body in zip(ids, bodies, strict=True):
        headers = {"X-Request-ID": request_id}
        await jetstream.publish_async(event_subject(made.site, suffix), body, headers=headers, wait_stall=60)
    await jetstream.publish_async_completed()
    return ids


async def create_rooms(made: Rig) -> None:
    await seed.people(made.db, MEMBERS)
    for number in range(ROOMS):
        await seed.room(made.db, made.site, f"room{number}", MEMBERS)


async def results(made: Rig, ids: list[str]) -> Counter[str]:
    """Wait for all results and count them by reason; a success counts as `ok`."""
    waiting = deque(ids)

    def all_here() -> bool:
        while waiting and waiting[0] in made.results:
            waiting.popleft()
        return not waiting

    await made.until(all_here, f"{len(ids)} results", PATIENCE)
    return Counter(str(made.results[request_id].get("reason", "ok")) for request_id in ids)


def rotations(count: int) -> list[bytes]:
    return [orjson.dumps({"roomId": f"room{number % ROOMS}", "requester": "m0"}) for number in range(count)]


@pytest.mark.timeout(900)
async def test_backlog_is_processed_with_flat_memory(own_nats: NatsServer, own_mongo: MongoServer, site: str) -> None:
    async with rig(own_nats.url, own_mongo.uri, "chat", site, hears=RESULTS) as made:
        await create_rooms(made)
        ids = await publish(made, "key.rotate", rotations(BACKLOG))
        async with child(made) as worker:
            await made.until(lambda: len(made.results) >= BACKLOG // 4, "a quarter of the results", PATIENCE)
            early = resident_mib(worker.pid)
            assert await results(made, ids) == {"ok": BACKLOG}
            late = resident_mib(worker.pid)
        versions = [room["encKey"]["ver"] async for room in made.db.rooms.find({}, {"encKey.ver": 1})]
        assert versions == [BACKLOG // ROOMS] * ROOMS, (
            "each event is one rotation, however the log was cut into batches"
        )
    assert late - early < GROWTH_MIB, f"{early} MiB after a quarter, {late} MiB at the end"


@pytest.mark.timeout(900)
async def test_valid_events_pass_among_invalid_ones_while_replicas_restart(
    own_nats: NatsServer, own_mongo: MongoServer, site: str
) -> None:
    chance = random.Random(5)  # noqa: S311 - a plan
    invalid = [chance.choice(INVALID) if number % 5 == 0 else None for number in range(EVENTS)]
    valid = rotations(EVENTS)
    bodies = [bad[0] if bad else valid[number] for number, bad in enumerate(invalid)]
    async with rig(own_nats.url, own_mongo.uri, "chat", site, hears=RESULTS) as made, AsyncExitStack() as stack:
        await create_rooms(made)
        workers = [await stack.enter_async_context(child(made)) for _ in range(2)]
        ids = await publish(made, "member.remove", [])
        for start in range(0, EVENTS, EVENTS // 5):
            some = range(start, start + EVENTS // 5)
            for number in some:
                suffix = "member.remove" if invalid[number] else "key.rotate"
                ids += await publish(made, suffix, [bodies[number]])
            workers.pop(0).send_signal(chance.choice([signal.SIGKILL, signal.SIGTERM]))
            workers.append(await stack.enter_async_context(child(made)))
        asked = [request_id for request_id, bad in zip(ids, invalid, strict=True) if bad is None]
        assert await results(made, asked) == {"ok": len(asked)}
        letters = await dead_letters(made, sum(bad is not None for bad in invalid))
    assert letters == Counter(bad[1] for bad in invalid if bad), "one dead letter per invalid event"


async def dead_letters(made: Rig, count: int) -> Counter[str]:
    """Wait for a number of dead letters and count them by reason; fail if there are more."""
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
