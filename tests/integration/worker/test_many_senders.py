"""Many rooms that go out at once: much waits for the socket then, and all of it moves."""

import asyncio

from tests.harness.site import Rig
from worker.broker import connection as brokers
from worker.broker.fanout import CHUNK_ACCOUNTS, Fanout

SENDERS = 32
PAYLOAD = b"x" * 1_000


async def test_many_who_send_at_once_are_not_taken_for_a_broker_that_takes_nothing(site_rig: Rig) -> None:
    broker = await brokers.connect(site_rig.settings, "senders")
    fanout = Fanout(broker, SENDERS)
    accounts = [f"nobody{number}" for number in range(2 * CHUNK_ACCOUNTS)]
    async with broker.barrier():
        sending = (fanout.send({"r1": PAYLOAD}, {"r1": accounts}) for _ in range(SENDERS))
        assert [
            failure
            for failure in await asyncio.gather(*sending, return_exceptions=True)
            if isinstance(failure, BaseException)
        ] == []
    await broker.close()
