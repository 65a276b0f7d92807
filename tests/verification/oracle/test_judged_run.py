"""The oracle finds nothing wrong in a run without faults that has events of every kind."""

import os
import random

import pytest

from tests.faults.machinery.limits import SMALL_LIMITS
from tests.harness.site import Rig
from tests.verification.oracle.judge import find_violations
from tests.verification.oracle.plan import Plan, publish
from tests.verification.oracle.recorder import recorder

SEED = int(os.environ.get("JUDGED_SEED", "1"))
EVENTS = int(os.environ.get("JUDGED_EVENTS", "200"))
PLAN = Plan(tuple(f"r{number}" for number in range(6)), tuple(f"u{number}" for number in range(10)))


@pytest.mark.parametrize("small", [False, True], ids=["", "small numbers"])
async def test_run_with_every_kind_of_event_keeps_every_invariant(site_rig: Rig, *, small: bool) -> None:
    if small:
        site_rig.limit(**SMALL_LIMITS)
    print(f"JUDGED_SEED={SEED} JUDGED_EVENTS={EVENTS}")  # noqa: T201 - shown when it fails
    chance = random.Random(SEED)  # noqa: S311 - a plan
    await PLAN.create_users(site_rig)
    async with (
        recorder(site_rig.settings.nats_url, site_rig.db, site_rig.site) as record,
        site_rig.worker(max_batch_events=4),
    ):
        await site_rig.until_owned()
        for suffix, body in PLAN.creates():
            await publish(site_rig, suffix, body)
        for _ in range(EVENTS):
            await publish(site_rig, *PLAN.event(chance))
        recording = await record.finish()
    assert find_violations(recording) == []
    assert len(recording.events) == EVENTS + len(PLAN.rooms)
    assert len(recording.key_messages) > EVENTS, "the recorder missed them"
    assert recording.dead_letters
    assert recording.gaps == []
