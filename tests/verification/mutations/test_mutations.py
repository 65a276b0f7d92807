"""What the judge is for: a worker that is broken on purpose is found out, by the invariant that it breaks."""

import pytest

from tests.harness.site import Rig
from tests.verification.mutations.mutation import Mutation, break_worker, play
from tests.verification.mutations.table import MUTATIONS
from tests.verification.oracle.judge import judge
from tests.verification.oracle.verdict import Invariant


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
async def test_a_broken_worker_is_found_out(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch, mutation: Mutation
) -> None:
    violations = judge(await play(site_rig, monkeypatch, mutation.scenario, mutation.breaks))
    assert mutation.invariant in {one.invariant for one in violations}, violations


def test_every_invariant_has_a_mutation() -> None:
    assert {mutation.invariant for mutation in MUTATIONS} == set(Invariant)


@pytest.mark.parametrize(
    "place",
    ["worker.pipeline.loop:Loop.no_such", "worker.pipeline.loop:no_such", "worker.pipeline.loop:Gone.settle"],
)
def test_a_mutation_of_what_is_gone_is_an_error(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    with pytest.raises(AttributeError):
        break_worker(monkeypatch, {place: lambda original: original})
