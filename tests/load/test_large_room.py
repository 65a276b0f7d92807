"""One room of a million members rotates in a burst, with joins in between, while small rooms rotate too."""

import pytest

from tests.harness.processes import child
from tests.harness.site import rig
from tests.load import seed
from tests.load.memory import peak_mib
from tests.load.sizes import size
from tests.load.tally import tally
from worker.limits import Limits
from worker.local.servers import MongoServer, NatsServer

MEMBERS = size(1_000_000, Limits().large_room_members + 10_000)
SMALL_ROOMS = size(1_000, 50)
SMALL = 10
JOINERS = 10
PEAK_MIB = 256


@pytest.mark.timeout(900)
async def test_burst_in_large_room_takes_one_more_pass_and_does_not_delay_small_rooms(
    own_nats: NatsServer, own_mongo: MongoServer, site: str
) -> None:
    everybody = MEMBERS + JOINERS
    async with (
        rig(own_nats.url, own_mongo.uri, "chat", site, hears=["chat.user.*.response.*"]) as made,
        tally(own_nats.url, everybody) as keys,
    ):
        await seed.people(made.db, SMALL)
        await seed.people(made.db, JOINERS, MEMBERS)
        await seed.room(made.db, site, "large", MEMBERS)
        for number in range(SMALL_ROOMS):
            await seed.room(made.db, site, f"small{number}", SMALL)
        async with child(made, PARTITIONS="1") as worker:
            burst = []
            for account in ("m1", "m2", "m3"):
                leave = {"roomId": "large", "requester": "m0", "account": account}
                burst.append(await made.publish("member.remove", leave))
                if account == "m1":
                    await keys.until(lambda: keys.reached("large", 1) > 0, "the first pass")
            joiners = [f"m{number}" for number in range(MEMBERS, everybody)]
            joins = {"roomId": "large", "users": joiners, "requesterAccount": "m0"}
            burst.append(await made.publish("member.add", joins))
            small = [
                await made.publish("key.rotate", {"roomId": f"small{number}", "requester": "m0"})
                for number in range(SMALL_ROOMS)
            ]
            answers = [await made.result(request_id, 300) for request_id in (*burst, *small)]
            peak = peak_mib(worker.pid)
        assert {answer["status"] for answer in answers} == {"ok"}
        room = await made.room("large")
        assert (room["encKey"]["ver"], room["keyRotation"]["settled"]) == (3, 3)
        assert keys.versions("large") == [1, 3], "the burst is one follow-up pass"
        await keys.until(lambda: keys.reached("large", 3) >= everybody - 3, "the last version")
        assert (keys.reached("large", 3), [keys.holds("large", 3, gone) for gone in (1, 2, 3)]) == (
            everybody - 3,
            [False] * 3,
        )
        assert all(keys.holds("large", version, number) for version in (1, 3) for number in range(MEMBERS, everybody))
        assert {len(bodies) for bodies in keys.keys.values()} == {1}, "one key per version"
        for number in range(SMALL_ROOMS):
            assert keys.reached(f"small{number}", 1) == SMALL
        order = [item.subject.rpartition(".")[2] for item in made.received if ".response." in item.subject]
        before = len(set(order[: order.index(burst[-1])]) & set(small))
        assert before >= size(SMALL_ROOMS // 2, 1), (
            f"{before} small rooms were answered during the rollout of the large one"
        )
    assert peak < PEAK_MIB, f"{peak} MiB"
