"""An outage of NATS in the log: one line when it begins, reminders, and one line at its end."""

import asyncio

import pytest
from structlog.testing import capture_logs

from tests.faults.machinery.scenario import caught_up
from tests.faults.machinery.wire import LEAVES_CONNECTIONS
from tests.harness import events
from tests.harness.health import until_not_ready, until_ready
from tests.harness.site import rig
from worker.local.ports import free_port
from worker.local.servers import NatsServer

pytestmark = LEAVES_CONNECTIONS


@pytest.mark.parametrize("lease_ms", [1_000, 60_000], ids=["partitions are given up", "partitions are kept"])
async def test_outage_of_nats_has_one_line_at_its_begin_and_one_at_its_end(
    own_nats: NatsServer, mongo_uri: str, database: str, site: str, lease_ms: int
) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with rig(own_nats.url, mongo_uri, database, site) as made:
        made.limit(lease_ms=lease_ms)
        await made.users("alice", "bob")
        async with made.worker(health_addr=address):
            for number in range(16):
                await made.ask("create", events.create(f"r{number}", "bob"))
            for number in range(16):
                await made.publish("key.rotate", events.rotate(f"r{number}"))
            with capture_logs() as logs:
                await own_nats.kill()
                await until_not_ready(address, "nats")
                await asyncio.sleep(6)  # the outage itself: attempts fail once a second
                await own_nats.start()
                await caught_up(made)
                await until_ready(address)
                for number in range(16):
                    assert (await made.ask("key.rotate", events.rotate(f"r{number}")))["status"] == "ok"
    of_nats = [line for line in logs if line["event"].startswith("NATS ")]
    assert [line["event"] for line in of_nats] == ["NATS unavailable"] * (len(of_nats) - 1) + ["NATS available again"]
    assert len({line.get("cause") for line in of_nats}) == len(of_nats), "a line for each cause, not for each attempt"
    assert of_nats[-1]["seconds"] >= 6
    others = [line for line in logs if line not in of_nats and line["log_level"] in {"warning", "error"}]
    assert len(others) <= 8, [(line["event"], line.get("cause")) for line in others]
