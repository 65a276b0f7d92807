"""A replica that was paused past its lease notices on waking that others own its partitions, without any event."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import orjson

from tests.faults.takeover.test_replicas import CREATE, owners, shared, until_owners
from tests.harness.polling import until
from tests.harness.processes import child, ends_well
from tests.harness.site import Rig

LOST = "lease of the partition lost"


def lines(log: Path, event: str) -> list[dict[str, Any]]:
    """Return the lines of an event in a log."""
    found = map(orjson.loads, log.read_text().splitlines()) if log.exists() else ()
    return [line for line in found if line["event"] == event]


async def test_replica_that_was_paused_names_the_new_owners_of_its_partitions_on_waking(
    site_rig: Rig, tmp_path: Path
) -> None:
    site_rig.limit(lease_ms=1_000, follow_s=600.0)  # an idle partition writes nothing that could fail
    await site_rig.users("alice", "bob", "carol")
    log = tmp_path / "log"
    async with child(site_rig, log, LOG_LEVEL="info") as sleeper:
        await until_owners(site_rig, lambda seen: shared(seen, 1), "it owns all")
        (before,) = set(await owners(site_rig))
        sleeper.send_signal(signal.SIGSTOP)
        async with site_rig.worker():
            await until_owners(site_rig, lambda seen: before not in seen and None not in seen, "the other owns all")
            (owner,) = set(await owners(site_rig))
            sleeper.send_signal(signal.SIGCONT)
            await until(lambda: len(lines(log, LOST)) == 8, log.read_text)
            assert sorted(line["partition"] for line in lines(log, LOST)) == list(range(8))
            assert {(line["epoch"], line["owner"]) for line in lines(log, LOST)} == {(2, owner)}
            await until_owners(site_rig, lambda seen: shared(seen, 2), "they share")
            assert (await site_rig.ask("create", CREATE))["status"] == "ok"
            await ends_well(sleeper)


async def test_lease_that_another_replica_takes_is_lost_at_once(site_rig: Rig) -> None:
    """An owner that is named in the cursor document without a heartbeat counts as dead."""
    site_rig.limit(follow_s=600.0)
    await site_rig.users("alice", "bob", "carol")
    async with site_rig.worker(partitions=1):
        await site_rig.ask("create", CREATE)
        (before,) = await owners(site_rig)
        taken = {"$set": {"owner": "another"}, "$inc": {"epoch": 1}}
        await site_rig.db.room_worker_cursors.update_one({"partition": 0}, taken)
        async with asyncio.timeout(20), await site_rig.db.room_worker_cursors.watch() as changes:
            while await owners(site_rig) != [before]:
                await changes.next()
        assert (await site_rig.ask("key.rotate", {"roomId": "r1", "requester": "alice"}))["status"] == "ok"
