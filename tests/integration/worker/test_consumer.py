"""The consumer requests no more than its owner reads, reads everything, and survives messages of others."""

import asyncio
from dataclasses import replace

import pytest
from nats.js.api import StreamConfig

from roomkeys.subjects import event_subject, events_stream, events_subjects
from tests.harness import events
from tests.harness.site import PATIENCE, Rig
from worker.broker import connection as brokers
from worker.broker.connection import INBOX_PREFIX
from worker.broker.jetstream.bootstrap import bootstrap_streams
from worker.broker.jetstream.consumer import Consumer
from worker.limits import Limits
from worker.telemetry import metrics

MESSAGES = 40
BODY = b"x" * 400_000
ASKED = 2 * 1024 * 1024
"""Bytes of one request: twice the largest message."""


async def test_a_reader_that_nobody_reads_from_stops_asking(site_rig: Rig) -> None:
    broker = await brokers.connect(site_rig.settings, "reader")
    await bootstrap_streams(broker, site_rig.site)
    jetstream, stream = site_rig.nc.jetstream(), events_stream(site_rig.site)
    for _ in range(MESSAGES):
        await jetstream.publish(event_subject(site_rig.site, "create"), BODY)
    async with Consumer(broker, stream, 1, Limits(pull_bytes=0)) as reader, asyncio.timeout(PATIENCE):
        (name,) = [info.name for info in await jetstream.consumers_info(stream)]
        while (info := await jetstream.consumer_info(stream, name)).num_waiting and info.num_pending:
            await broker.client.flush()
        await broker.client.flush()
        held = sum(len(message.body) for message in reader._arrived)
        assert 0 < held <= 2 * ASKED
        read = 0
        while read < MESSAGES:
            read += len(await reader.read())
        assert read == MESSAGES
    await broker.close()


@pytest.mark.parametrize(
    ("reply", "headers"),
    [
        ("", None),
        ("_INBOX.x", None),
        ("$JS.ACK", None),
        ("$JS.ACK.a.b.c.d.e.f.g", None),
        ("$JS.ACK.stream.other.1.1.1.1.0", {"X-Request-ID": "x"}),
        ("$JS.ACK.domain.account.stream.other.1.1.1.1.0.random", None),
        ("", {"Status": "409", "Description": "Exceeded MaxWaiting"}),
        ("", {"Status": "200", "Nats-Pending-Messages": 5_000 * "9"}),
        ("", {"Status": "²", "Nats-Pending-Messages": "²"}),
        ("x" * 300, {"Nats-Marker-Reason": "Purge"}),
    ],
)
async def test_message_of_another_client_in_its_inbox_ends_no_reading(
    site_rig: Rig, reply: str, headers: dict[str, str] | None
) -> None:
    await site_rig.users("alice", "bob")
    inboxes: set[str] = set()

    async def learn(message: object) -> None:
        inboxes.add(message.reply)  # type: ignore[attr-defined]

    await site_rig.nc.subscribe(f"$JS.API.CONSUMER.MSG.NEXT.{events_stream(site_rig.site)}.>", cb=learn)
    await site_rig.nc.flush()
    async with site_rig.worker():
        await site_rig.ask("create", events.create("r1", "bob"))
        await site_rig.until(lambda: inboxes)
        for inbox in list(inboxes):
            assert inbox.startswith(f"{INBOX_PREFIX}.")
            for _ in range(3):
                await site_rig.nc.publish(inbox, b"", reply=reply, headers=headers)
        assert (await site_rig.ask("key.rotate", events.rotate("r1")))["status"] == "ok"
        assert (await site_rig.ask("key.rotate", events.rotate("r1")))["status"] == "ok"


async def test_delete_markers_are_skipped_and_counted(site_rig: Rig) -> None:
    """The server writes them under the subjects of the events that it has deleted."""
    await site_rig.users("alice", "bob")
    name = events_stream(site_rig.site)
    jetstream = site_rig.nc.jetstream()
    await jetstream.delete_stream(name)
    config = StreamConfig(name=name, subjects=[events_subjects(site_rig.site)], max_age=1, duplicate_window=1)
    await jetstream.add_stream(
        replace(config, allow_msg_ttl=True, allow_rollup_hdrs=True, subject_delete_marker_ttl=60)
    )
    await jetstream.publish(event_subject(site_rig.site, "r9.create"), b"{}")
    async with asyncio.timeout(PATIENCE):
        while (info := await jetstream.stream_info(name)).state.last_seq == 1:
            pass
    await jetstream.update_stream(replace(info.config, max_age=0))
    skipped = metrics.SKIPPED._value.get()
    async with site_rig.worker():
        assert (await site_rig.ask("create", events.create("r1", "bob")))["status"] == "ok"
    assert metrics.SKIPPED._value.get() == skipped + 1
    assert site_rig.of(f"chat.room.deadletter.{site_rig.site}") == []
