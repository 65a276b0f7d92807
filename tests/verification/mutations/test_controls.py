"""A worker without mutations comes through every scenario."""

import pytest

from tests.harness.site import Rig
from tests.verification.mutations.mutation import play
from tests.verification.mutations.site_under_test import Scenario
from tests.verification.mutations.table import MUTATIONS
from tests.verification.oracle.judge import find_violations

SCENARIOS = list(dict.fromkeys(mutation.scenario for mutation in MUTATIONS))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_correct_worker_has_no_violation(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch, scenario: Scenario
) -> None:
    recording = await play(site_rig, monkeypatch, scenario, {})
    assert recording.events
    assert find_violations(recording) == []
