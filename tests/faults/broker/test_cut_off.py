"""A replica whose way to the broker is cut: others serve its partitions, and what expires meanwhile is counted."""

from itertools import count

from roomkeys import subjects
from tests.faults.machinery.wire import LEAVES_CONNECTIONS
from tests.faults.takeover.test_replicas import CREATE, shared, until_owners
from tests.harness import events
from tests.harness.proxy import proxied
from tests.harness.site import Rig
from worker.telemetry import metrics

pytestmark = LEAVES_CONNECTIONS


async def test_a_replica_that_cannot_reach_the_broker_leaves_its_partitions_to_others(site_rig: Rig) -> None:
    site_rig.limit(lease_ms=2_000)
    await site_rig.users("alice", "bob", "carol")
    async with (
        proxied(site_rig.settings.nats_url[0]) as proxy,
        site_rig.worker(nats_url=[proxy.url]),
        site_rig.worker(),
    ):
        await until_owners(site_rig, lambda seen: shared(seen, 2), "two replicas own half each")
        proxy.accepting = False
        proxy.cut()
        for number in range(16):
            body = {**CREATE, "roomId": f"r{number}"}
            assert (await site_rig.ask("create", body))["status"] == "ok"
        await until_owners(site_rig, lambda seen: shared(seen, 1), "the other one owns all")
        proxy.accepting = True
        await until_owners(site_rig, lambda seen: shared(seen, 2), "it is back")


async def test_what_expires_while_nothing_can_be_read_is_counted(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob", "carol")
    async with proxied(site_rig.settings.nats_url[0]) as proxy, site_rig.worker(nats_url=[proxy.url]):
        assert (await site_rig.ask("create", CREATE))["status"] == "ok"
        before = metrics.STREAM_FAULTS._value.get()
        proxy.accepting = False
        proxy.cut()
        await site_rig.publish("key.rotate", events.rotate("r1"))
        await site_rig.nc.jetstream().purge_stream(subjects.events_stream(site_rig.site))
        proxy.accepting = True
        for number in count():
            await site_rig.ask("create", {**CREATE, "roomId": f"r{number + 2}"})
            if metrics.STREAM_FAULTS._value.get() > before or number == 100:
                break
        assert metrics.STREAM_FAULTS._value.get() > before
        await site_rig.ask("key.rotate", events.rotate("r1"))  # what the cut interrupted is finished
