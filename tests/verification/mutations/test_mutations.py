"""The oracle finds every worker that is broken on purpose, with the check that is meant to find it."""

import pytest

from tests.harness.site import Rig
from tests.verification.mutations.mutation import Mutation, break_worker, play
from tests.verification.mutations.table import MUTATIONS
from tests.verification.oracle.judge import CHECKS, find_violations

ONLY_BY_EXAMPLE = {
    "every_rotation_reaches_the_members",
    "joiners_are_sent_the_current_key",
    "one_version_per_key",
    "payloads_are_well_formed",
    "repeated_messages_are_identical",
    "database_matches_the_events",
    "result_is_the_last_message",
    "first_key_comes_before_the_result",
}
"""Checks that no mutation is meant for; recordings written by hand show that they find something."""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
async def test_check_finds_broken_worker(site_rig: Rig, monkeypatch: pytest.MonkeyPatch, mutation: Mutation) -> None:
    recording = await play(site_rig, monkeypatch, mutation.scenario, mutation.breaks, mutation.found_by)
    violations = find_violations(recording)
    assert mutation.found_by.__name__ in {one.check for one in violations}, violations


def test_every_check_has_a_mutation_or_is_listed() -> None:
    found_by = {mutation.found_by.__name__ for mutation in MUTATIONS}
    assert found_by | ONLY_BY_EXAMPLE == {check.name for check in CHECKS}
    assert found_by & ONLY_BY_EXAMPLE == set()


def test_every_checked_invariant_has_a_mutation() -> None:
    invariants = {check.name: check.invariant for check in CHECKS}
    assert {invariants[mutation.found_by.__name__] for mutation in MUTATIONS} == set(invariants.values())


@pytest.mark.parametrize(
    "place", ["worker.pipeline.loop:Loop.no_such", "worker.pipeline.loop:no_such", "worker.pipeline.loop:Gone.settle"]
)
def test_mutation_of_a_missing_function_is_an_error(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    with pytest.raises(AttributeError):
        break_worker(monkeypatch, {place: lambda original: original})
