"""The protocol, searched: with its rules nothing breaks, and without each of them something does.

The bounds are small, so that this takes seconds; `python -m tests.verification.model --help` searches further.
"""

import pytest

from tests.verification.model.rules import Rule
from tests.verification.model.search import search
from tests.verification.model.state import Event, Scenario

A, B, C = range(3)
ROTATE = Event("rotate")
BIG, SMALL, EITHER = "big", "small", "either"


def add(*accounts: int) -> Event:
    return Event("add", accounts)


def remove(*accounts: int) -> Event:
    return Event("remove", accounts)


def in_slices(event: Event) -> Event:
    return event._replace(sliced=True)


CREATED = Scenario((add(A, B), remove(B), add(C)), members=(), keyed=False, most=2)
"""A room that is made, and so has no key that joiners could be sent."""

LEFT_AND_CAME_BACK = Scenario((ROTATE, remove(B), add(B)), takes=0, conflicts=1)
JOINED_THEN_LONG = Scenario((add(B), ROTATE, in_slices(remove(B, C))), members=(A, C))
CAME_AND_LEFT = Scenario((add(C), remove(C)), size=SMALL, breaks=1)

HOLDS = {
    "a small room": Scenario((remove(B), add(C), ROTATE), size=SMALL, breaks=1),
    "a big room": Scenario((remove(B), add(C)), breaks=1, conflicts=1),
    "a room that grows and shrinks": Scenario((remove(B), add(C)), size=EITHER),
    "a new room": CREATED,
    "a new room, in slices": Scenario((in_slices(add(A, B)), add(C)), members=(), keyed=False),
    "a removal in slices": Scenario((ROTATE, in_slices(remove(B, C))), members=(A, B, C)),
    "an add in slices": Scenario((ROTATE, in_slices(add(B, C))), members=(A,), conflicts=1),
    "a small room, taken over": Scenario((add(C), remove(B), ROTATE), size=SMALL),
    "two takeovers": Scenario((remove(B), add(C)), size=SMALL, takes=2),
}

BREAKS = {
    Rule.FENCE_WRITTEN: (Scenario((remove(B), ROTATE, add(C))), "notice before key"),
    Rule.SURVIVORS_AFTER_KEY: (Scenario((remove(B),)), "exclusion"),
    Rule.CONFIRMED_FIRST: (Scenario((remove(B),), size=SMALL, breaks=1), "hold before use"),
    Rule.STAGED_ONCE: (Scenario((remove(B), ROTATE)), "hold before use"),
    Rule.RESULTS_WAIT: (Scenario((remove(B),)), "result"),
    Rule.SETTLED_NOT_STAGED: (Scenario((remove(B),)), "result"),
    Rule.KEY_BEFORE_PAGES: (Scenario((ROTATE, remove(A))), "exclusion"),
    Rule.DECIDED_ONCE: (Scenario((add(C),)), "result"),
    Rule.BYTES_KEPT: (Scenario((ROTATE,)), "one key per version"),
    Rule.JOINERS_KEPT: (Scenario((add(C),)), "result"),
    Rule.KEYS_THEN_MEMBERS: (Scenario((add(C), remove(C)), size=SMALL), "exclusion"),
    Rule.STAGED_TO_JOINERS: (Scenario((ROTATE, add(B)), members=(A, C)), "hold before use"),
    Rule.NEWCOMERS_LEFT_OUT: (Scenario((ROTATE, add(C))), "notice before key"),
    Rule.LEFT_OUT_BEFORE: (Scenario((ROTATE, add(C))), "notice before key"),
    Rule.LEFT_OUT_UNTIL_CONFIRMED: (Scenario((ROTATE, add(C)), breaks=1), "notice before key"),
    Rule.NEWCOMERS_ONLY: (LEFT_AND_CAME_BACK, "hold before use"),
    Rule.DRAINED_AFTER_NOTICES: (Scenario((remove(B), add(C))), "hold before use"),
    Rule.PAGES_UNDER_LEASE: (Scenario((remove(B), add(C))), "notice before key"),
    Rule.PLACE_SAVED: (Scenario((in_slices(remove(B, C)),), members=(A, B, C)), "stuck"),
    Rule.ROTATION_SAVED: (Scenario((in_slices(remove(B, C)),)), "versions"),
    Rule.SLICES_IN_ORDER: (JOINED_THEN_LONG, "notices in order"),
    Rule.PAGES_CONFIRMED: (Scenario((ROTATE,), breaks=1), "hold before use"),
    Rule.STRIKES_FENCED: (CAME_AND_LEFT, "notices in order"),
    Rule.DOUBT_IS_A_CRASH: (Scenario((ROTATE, ROTATE), size=SMALL, most=1), "one key per version"),
}

SPARE = {
    Rule.WHOLE_EVENTS: Scenario((ROTATE, in_slices(remove(B, C))), members=(A, B, C)),
    Rule.ALL_RESENT: CAME_AND_LEFT,
}
"""Rules without which nothing was found: they make things simpler, or another rule covers them."""


def test_each_rule_is_either_needed_or_spare() -> None:
    assert sorted([*BREAKS, *SPARE]) == sorted(Rule)


@pytest.mark.parametrize("scenario", HOLDS.values(), ids=HOLDS)
def test_nothing_breaks(scenario: Scenario) -> None:
    found = search(scenario)
    assert found.violation is None, "\n".join([found.violation, *found.steps])


@pytest.mark.parametrize("rule", BREAKS, ids=lambda rule: rule.name.lower())
def test_a_broken_rule_breaks_an_invariant(rule: Rule) -> None:
    scenario, invariant = BREAKS[rule]
    violation = search(scenario, {rule}).violation
    assert violation is not None
    assert violation.startswith(f"{invariant}:"), violation


@pytest.mark.parametrize("rule", SPARE, ids=lambda rule: rule.name.lower())
def test_a_spare_rule_may_be_broken(rule: Rule) -> None:
    found = search(SPARE[rule], {rule})
    assert found.violation is None, "\n".join([found.violation, *found.steps])


def test_slices_may_go_from_the_outbox_early_where_recovery_resends_only_what_the_last_batch_owes() -> None:
    found = search(JOINED_THEN_LONG, {Rule.SLICES_IN_ORDER, Rule.ALL_RESENT})
    assert found.violation is None, "\n".join([found.violation, *found.steps])


def test_a_counterexample_tells_the_shortest_way_to_it() -> None:
    found = search(Scenario((remove(B),), takes=0), {Rule.SURVIVORS_AFTER_KEY})
    assert found.steps[0] == "epoch 1 takes the lease"
    assert found.steps[-1] == "epoch 1 drainer reads b"
