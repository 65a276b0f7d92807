"""Removals, end to end: from an event in the stream, through a worker process, to the recorder."""

import asyncio
import time

from benchmarks.harness import seed
from benchmarks.harness.accounts import REQUESTER, account
from benchmarks.harness.child import cpu_by_program, cpu_seconds
from benchmarks.harness.site import GO, OURS, PYMONGO, Bench, Site
from benchmarks.harness.sizes import SIZES, TEN
from benchmarks.harness.workers import Worker, removal, working
from benchmarks.report.progress import say
from benchmarks.report.samples import Samples
from store.database import IN_TRANSACTIONS
from store.reads.batch_query import batch_pipeline

NAMES = {OURS: "ours", PYMONGO: "ours, MONGO_DRIVER=pymongo", GO: "Go"}
ROOM = "room"
ROOMS_OF_TEN = "ten"
PAUSE = 0.02
"""Seconds between two removals on an idle system."""

DRIVER_ALONE = "for comparison, the driver alone: the same read and transaction"
NANOSECONDS = 1_000_000_000


async def prepare(site: Site) -> None:
    """Create the rooms of this scenario."""
    await site.rooms_of_ten(ROOMS_OF_TEN, SIZES.rooms_of_ten)
    await seed.rooms(site.db, site.name, ROOM, 1, SIZES.room)


async def removals(bench: Bench, samples: Samples) -> None:
    """Measure all workers in turn, in several rounds."""
    for number in range(SIZES.rounds):
        for peer in bench.workers:
            if peer == PYMONGO and number > 0:
                continue  # one round is enough to show that the other driver does no worse
            say(f"removals, round {number + 1}: {NAMES[peer]}")
            async with working(bench, peer, f"warm-{peer}-{number}-") as worker:
                say("single removals")
                await _in_rooms_of_ten(bench, samples, peer, worker)
                await _in_a_room(bench, samples, peer)
                say("backlog")
                await _backlog(bench, samples, peer, worker)
            await bench.site(peer).put_back(ROOMS_OF_TEN, SIZES.rooms_of_ten, 1, 1)


async def _in_rooms_of_ten(bench: Bench, samples: Samples, peer: str, worker: Worker) -> None:
    """Remove one member from each of some rooms of ten, one after the other, and put them back."""
    count, site = SIZES.removals_in_rooms_of_ten, bench.site(peer)
    steps, worked = await worker.step_seconds(), cpu_seconds(worker.pid)
    latencies = [await removed(bench, site, f"{ROOMS_OF_TEN}{number}", 1, TEN - 1) for number in range(count)]
    samples.add("room of ten", NAMES[peer], *latencies)
    samples.add("idle CPU", NAMES[peer], (cpu_seconds(worker.pid) - worked) / count * 1_000_000)
    for step, total in (await worker.step_seconds()).items():
        samples.add(f"idle step {step}", NAMES[peer], (total - steps.get(step, 0.0)) / count * 1_000)
    await site.put_back(ROOMS_OF_TEN, count, 1, 1)
    if peer == OURS:
        samples.add(f"idle step {DRIVER_ALONE}", NAMES[peer], await _driver_alone(site, count))
        await site.put_back(ROOMS_OF_TEN, count, 1, 1)


async def _driver_alone(site: Site, count: int) -> float:
    """Return the mean milliseconds of the read and the transaction that precede a key, with the driver alone."""
    seconds = 0.0
    async with site.db.client.start_session() as session:
        for number in range(count):
            await asyncio.sleep(PAUSE)
            room_id, since = f"{ROOMS_OF_TEN}{number}", time.monotonic()
            read = batch_pipeline({room_id: {REQUESTER, account(1)}}, [room_id], 256)
            await (await site.db.rooms.aggregate(read, session)).to_list()
            await session.start_transaction(**IN_TRANSACTIONS)
            await site.db.measured.update_one(
                {"_id": "cursor"}, {"$set": {"applied": number}}, session=session, upsert=True
            )
            await site.db.rooms.update_one({"_id": room_id}, {"$set": {"measured": bytes(32)}}, session=session)
            await site.db.subscriptions.delete_many({"roomId": room_id, "u.account": account(1)}, session=session)
            await site.db.measured.insert_one({"owed": bytes(512)}, session=session)
            await session.commit_transaction()
            seconds += time.monotonic() - since
    return seconds / count * 1_000


async def _in_a_room(bench: Bench, samples: Samples, peer: str) -> None:
    """Remove some members from a larger room, one after the other, and put them back."""
    count, site = SIZES.removals_in_room, bench.site(peer)
    room_id = f"{ROOM}0"
    latencies = [await removed(bench, site, room_id, number, SIZES.room - number) for number in range(1, count + 1)]
    samples.add("room", NAMES[peer], *latencies)
    await site.put_back(ROOM, 1, 1, count)


async def removed(bench: Bench, site: Site, room_id: str, number: int, survivors: int) -> float:
    """Remove a member; return the milliseconds until the last survivor holds the key."""
    recorder = bench.recorder
    await recorder.reset()
    recorder.begin_until(survivors, 1)
    since = time.monotonic_ns()
    await site.publish("member.remove", removal(room_id, number))
    answer = await recorder.until()
    await recorder.check(survivors, results=1, without=account(number))
    await asyncio.sleep(PAUSE)
    return float(answer["key_ns"] - since) / 1_000_000


async def _backlog(bench: Bench, samples: Samples, peer: str, worker: Worker) -> None:
    """Pause a worker while one removal for each room of ten is stored, then measure how fast it catches up."""
    site, recorder, count = bench.site(peer), bench.recorder, SIZES.rooms_of_ten
    steps = await worker.step_seconds()
    worker.pause()
    try:
        events = [removal(f"{ROOMS_OF_TEN}{number}") for number in range(count)]
        await site.publish_all("member.remove", events)
        await recorder.reset()
        recorder.begin_until(count * (TEN - 1), count)
        worked, before = cpu_by_program(), cpu_seconds(worker.pid)
    finally:
        since = time.monotonic_ns()
        worker.resume()
    answer = await recorder.until()
    seconds = (max(answer["result_ns"], answer["key_ns"]) - since) / NANOSECONDS
    recorder.note_load(answer, seconds)
    samples.add("backlog", NAMES[peer], count / seconds)
    samples.add("backlog CPU", NAMES[peer], (cpu_seconds(worker.pid) - before) / count * 1_000_000)
    for program, total in cpu_by_program().items():
        samples.add(f"backlog CPU of {program}", NAMES[peer], (total - worked.get(program, 0.0)) / seconds)
    for step, total in (await worker.step_seconds()).items() if peer == OURS else ():
        samples.add("step", step, (total - steps.get(step, 0.0)) / seconds)
    await recorder.check(count * (TEN - 1), results=count, without=account(1))
