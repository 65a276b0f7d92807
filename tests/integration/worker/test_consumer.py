"""The stream's reader asks for no more than its owner reads, and reads everything."""

import asyncio

from roomkeys.subjects import event_subject, events_stream
from tests.harness.site import PATIENCE, Rig
from worker.broker import connection as brokers
from worker.broker.bootstrap import bootstrap_streams
from worker.broker.consumer import Consumer
from worker.limits import Limits

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
