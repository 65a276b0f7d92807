"""The README says what the code says. (The lines of the rules are compared where the searches run.)"""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from pkgutil import resolve_name

import pytest

from tests.verification.invariants import Invariant
from tests.verification.model.rules import Rule
from tests.verification.model.scenario import ROTATE, A, B, C, Scenario, Size, add, in_slices, remove
from tests.verification.model.search import model_of, moves
from tests.verification.model.state import Phase, State, Step, Worker, start
from tests.verification.model.table import NEEDED, TABLE, TableRow
from tests.verification.readme import OTHER_TESTS, README, invariants, rules_heading

DESIGN = Path("docs/design.md")
RELIABILITY = Path("docs/reliability.md")
MERGED = {
    (Step.BATCH, Step.DELIVER): (Step.BATCH, Step.APPLY, Step.DELIVER),
    (Step.BATCH, Step.SET_ASIDE): (Step.BATCH, Step.APPLY, Step.SET_ASIDE),
    (Step.BATCH, Step.ANNOUNCE): (Step.BATCH, Step.SETTLE, Step.ANNOUNCE),
}
"""Steps that the model takes as one, because no other worker could see what is between them."""

SCENARIOS = (
    Scenario((remove(B), add(C), ROTATE), size=Size.SMALL, disconnects=1),
    Scenario((remove(B), add(C)), disconnects=1, conflicts=1),
    Scenario((ROTATE, in_slices(remove(B, C))), members=(A, B, C)),
    Scenario((ROTATE, add(C)), conflicts=1, outages=1, refused=(2,)),
)
Edges = set[tuple[str, str]]


def test_invariants_are_those_of_the_design() -> None:
    found = re.findall(r"^(\d+)\. \*\*(.+?)\.\*\*", DESIGN.read_text(), re.MULTILINE)
    assert [(int(number), title) for number, title in found] == [(one.value, one.title) for one in Invariant]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.rule.name.lower())
def test_rule_names_functions_that_exist(row: TableRow) -> None:
    for target in row.code:
        assert callable(resolve_name(target)) or isinstance(resolve_name(target), property)


def test_readme_has_the_table_of_invariants() -> None:
    assert invariants() in README.read_text(), "run `python -m tests.verification.readme`"


def test_reliability_page_has_the_numbers_of_rules() -> None:
    text = " ".join(RELIABILITY.read_text().split())
    assert f"has {len(TABLE)} rules" in text
    assert f"For {len(NEEDED)} of them" in text


def test_other_tests_exist() -> None:
    missing = [path for paths in OTHER_TESTS.values() for path in paths if not Path(path).exists()]
    assert missing == []


def test_readme_has_every_rule_in_order() -> None:
    text = README.read_text()
    assert re.findall(r"^\| `([A-Z_]+)` \|", text, re.MULTILINE) == [rule.name for rule in Rule]
    assert rules_heading() in text


def test_diagrams_have_the_steps_that_the_model_takes() -> None:
    steps, phases = _drawn()
    taken_steps, taken_phases = _taken()
    assert steps == taken_steps
    assert phases == taken_phases


def _drawn() -> tuple[Edges, Edges]:
    """Return the arrows of both diagrams, without those from the start and to the end."""
    first, second = re.findall(r"```mermaid\nstateDiagram-v2\n(.+?)```", README.read_text(), re.DOTALL)
    return tuple(set(re.findall(r"(\w+) --> (\w+)", diagram)) for diagram in (first, second))  # type: ignore[return-value]


def _taken() -> tuple[Edges, Edges]:
    """Return the steps of workers and of passes in a few scenarios, by the names of the diagrams."""
    steps: Edges = set()
    phases: Edges = set()
    for scenario in SCENARIOS:
        for before, after in _transitions(scenario):
            if before.rollout and after.rollout and before.rollout != after.rollout and before.step is after.step:
                phases.add((_name(before.rollout.phase), _name(after.rollout.phase)))
            else:
                way = MERGED.get((before.step, after.step), (before.step, after.step))
                steps.update((_name(one), _name(other)) for one, other in pairwise(way))
    return steps, phases


def _transitions(scenario: Scenario) -> Iterator[tuple[Worker, Worker]]:
    """Yield the worker before and after each step that a scenario can take."""
    model, first = model_of(scenario), start(scenario)
    known, waiting = {first}, [first]
    while waiting:
        state = waiting.pop()
        for move in moves(model, state):
            yield _worker(state, move.epoch), _worker(move.state, move.epoch)
            if move.state not in known:
                known.add(move.state)
                waiting.append(move.state)


def _worker(state: State, epoch: int) -> Worker:
    return next((worker for worker in state.workers if worker.epoch == epoch), Worker())


def _name(step: Step | Phase) -> str:
    return step.value.replace(" ", "_")
