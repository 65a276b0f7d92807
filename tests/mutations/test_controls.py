"""A worker that is not broken comes through every run in which a mutation is judged."""

import pytest

from tests.judge.judge import judge
from tests.mutations.mutation import play
from tests.mutations.table import MUTATIONS
from tests.mutations.town import Scenario
from tests.rig import Rig

SCENARIOS = list(dict.fromkeys(mutation.scenario for mutation in MUTATIONS))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_a_worker_that_is_not_broken_is_found_right(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch, scenario: Scenario
) -> None:
    recording = await play(site_rig, monkeypatch, scenario, {})
    assert recording.events
    assert judge(recording) == []
