"""Where a site begins when it has no cursor yet, and what it does not begin with. (docs/contract.md, section 7)"""

import pytest
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StreamConfig

from roomkeys import subjects
from tests.harness import events
from tests.harness.site import Rig
from worker.broker.connection import connect
from worker.broker.jetstream.bootstrap import FORMER_CONSUMER, check_streams

ROOMS = ["r1", "r2", "r3", "r4"]


async def created(rig: Rig, **changes: str) -> set[str]:
    """Publish four rooms, start a worker, create one more; return which rooms there are then."""
    await rig.users("alice", "bob")
    for room_id in ROOMS:
        await rig.publish("create", body(room_id))
    await make_former_consumer_stop_after(rig, 3) if changes.pop("former", None) else None
    async with rig.worker(**changes):
        await rig.until_owned()
        await rig.ask("create", body("last"))
    return {room["_id"] async for room in rig.db.rooms.find({}, {"_id": 1})}


def body(room_id: str) -> dict[str, object]:
    return events.create(room_id, "bob", name=room_id)


async def make_former_consumer_stop_after(rig: Rig, sequence: int) -> None:
    """Do as the worker that was here before: acknowledge the first events by a durable consumer."""
    jetstream, stream = rig.nc.jetstream(), subjects.events_stream(rig.site)
    config = ConsumerConfig(durable_name=FORMER_CONSUMER, ack_policy=AckPolicy.EXPLICIT)
    await jetstream.add_consumer(stream, config)
    former = await jetstream.pull_subscribe_bind(durable=FORMER_CONSUMER, stream=stream)
    for message in await former.fetch(sequence, timeout=5):
        await message.ack_sync()


async def test_without_a_former_consumer_a_site_begins_at_the_first_message(site_rig: Rig) -> None:
    assert await created(site_rig) == {*ROOMS, "last"}


async def test_a_site_goes_on_after_what_its_former_worker_acknowledged(site_rig: Rig) -> None:
    assert await created(site_rig, former="yes") == {"r4", "last"}


async def test_a_site_can_begin_with_new_events_only(site_rig: Rig) -> None:
    assert await created(site_rig, start_from="new") == {"last"}


async def test_a_site_can_begin_at_a_sequence(site_rig: Rig) -> None:
    assert await created(site_rig, start_from="3") == {"r3", "r4", "last"}


async def test_a_sequence_beyond_the_stream_means_its_end(site_rig: Rig) -> None:
    assert await created(site_rig, start_from="1000") == {"last"}


async def test_where_a_site_began_is_told_once(site_rig: Rig) -> None:
    assert await created(site_rig, start_from="3") == {"r3", "r4", "last"}
    async with site_rig.worker(start_from="1"):
        await site_rig.ask("create", body("later"))
    assert await site_rig.db.rooms.count_documents({"_id": {"$in": ["r1", "r2"]}}) == 0


async def test_a_stream_whose_retention_is_not_limits_is_refused_with_a_reason(site_rig: Rig) -> None:
    jetstream, name = site_rig.nc.jetstream(), subjects.events_stream(site_rig.site)
    await jetstream.delete_stream(name)
    config = StreamConfig(
        name=name, subjects=[subjects.events_subjects(site_rig.site)], retention=RetentionPolicy.WORK_QUEUE
    )
    await jetstream.add_stream(config)
    broker = await connect(site_rig.settings, "test")
    with pytest.raises(Exception, match="retention"):
        await check_streams(broker, site_rig.site)
    await broker.close()
