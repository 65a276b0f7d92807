"""The protocol, searched: with every rule no invariant breaks, and without one of them one does.

The bounds are small, so that this takes seconds. `python -m tests.verification.model --help` searches further.
"""

import pytest

from tests.verification.model.rules import Rule
from tests.verification.model.scenario import (
    REJECT,
    ROTATE,
    A,
    B,
    C,
    Scenario,
    Size,
    add,
    create_again,
    in_slices,
    remove,
)  # fmt: skip
from tests.verification.model.search import search
from tests.verification.model.table import JOINED_BEFORE_SLICES, NEEDED, SPARE, TABLE
from tests.verification.readme import README, counterexample, rule_line

HOLDS = {
    "small room": Scenario((remove(B), add(C), ROTATE), size=Size.SMALL, disconnects=1),
    "large room": Scenario((remove(B), add(C)), disconnects=1, conflicts=1),
    "room that grows and shrinks": Scenario((remove(B), add(C)), size=Size.EITHER),
    "new room": Scenario((add(A, B), remove(B), add(C)), members=(), has_key=False, max_batch=2),
    "new room in slices": Scenario((in_slices(add(A, B)), add(C)), members=(), has_key=False),
    "removal in slices": Scenario((ROTATE, in_slices(remove(B, C))), members=(A, B, C)),
    "add in slices": Scenario((ROTATE, in_slices(add(B, C))), members=(A,), conflicts=1),
    "takeover of a small room": Scenario((add(C), remove(B), ROTATE), size=Size.SMALL),
    "refuses everything for a while": Scenario((remove(B), add(C)), size=Size.SMALL, disconnects=1, outages=2),
    "refuses everything, and a large room": Scenario((ROTATE, add(C)), conflicts=1, outages=2),
    "refuses everything, and slices": Scenario((ROTATE, in_slices(remove(B, C))), members=(A, B, C), outages=1),
    "refuses one event": Scenario((remove(B), add(C), ROTATE), size=Size.SMALL, outages=1, refused=(1,)),
    "refuses the last event of a large room": Scenario((ROTATE, add(C)), disconnects=1, outages=1, refused=(2,)),
    "room created again": Scenario((ROTATE, create_again(A, B), remove(B)), size=Size.SMALL, disconnects=1),
    "denies a small room": Scenario((remove(B), add(C)), size=Size.SMALL, disconnects=1, denials=2),
    "denies a large room": Scenario((ROTATE, add(C)), size=Size.EITHER, disconnects=1, denials=2),
    "denies joiners": Scenario((add(C), ROTATE), size=Size.SMALL, disconnects=1, denials=2),
    "denies joiners who come back": Scenario((add(C), remove(C), add(C)), size=Size.SMALL, denials=1, max_batch=1),
    "letters beside the loop": Scenario((add(C), REJECT, remove(C)), size=Size.SMALL, disconnects=1),
    "letters of a large room": Scenario((ROTATE, REJECT), disconnects=1),
    "two takeovers": Scenario((remove(B), add(C)), size=Size.SMALL, takeovers=2),
}


def test_table_has_every_rule_in_order() -> None:
    assert [row.rule for row in TABLE] == list(Rule)


@pytest.mark.parametrize("scenario", HOLDS.values(), ids=HOLDS)
def test_no_invariant_breaks_with_every_rule(scenario: Scenario) -> None:
    found = search(scenario)
    assert found.violation is None, str(found)


@pytest.mark.parametrize("rule", NEEDED, ids=lambda rule: rule.name.lower())
def test_invariant_breaks_without_needed_rule(rule: Rule) -> None:
    row = NEEDED[rule]
    found = search(row.scenario, {rule})
    assert found.violation is not None
    assert found.violation.invariant is row.invariant, str(found)
    line = rule_line(row, counterexample(row, found))
    assert line in README.read_text(), "run `python -m tests.verification.readme` and read what has changed"


@pytest.mark.parametrize("rule", SPARE, ids=lambda rule: rule.name.lower())
def test_no_invariant_breaks_without_spare_rule(rule: Rule) -> None:
    row = SPARE[rule]
    found = search(row.scenario, {rule})
    assert found.violation is None, str(found)
    assert rule_line(row, counterexample(row, found)) in README.read_text()


def test_entries_need_no_order_if_recovery_resends_only_the_last_batch() -> None:
    found = search(JOINED_BEFORE_SLICES, {Rule.ENTRIES_DELETED_IN_ORDER, Rule.EVERY_ENTRY_RESENT})
    assert found.violation is None, str(found)


def test_counterexample_has_the_shortest_way_from_the_start() -> None:
    found = search(Scenario((remove(B),), takeovers=0), {Rule.SURVIVORS_AFTER_KEY})
    assert found.steps[0] == "epoch 1 takes the lease"
    assert found.steps[-1] == "epoch 1 rollout reads b"
