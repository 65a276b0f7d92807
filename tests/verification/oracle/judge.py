"""The judge: whether a run, as recorded, kept every invariant."""

from tests.verification.oracle import key_leaks, keys, order, reach, results
from tests.verification.oracle.recording import Recording
from tests.verification.oracle.verdict import Check, Violation, case

CHECKS: tuple[Check, ...] = (
    reach.hold,
    reach.reach,
    reach.reach_in_the_end,
    reach.exclusion,
    reach.exclusion_on_result,
    keys.one_key,
    keys.one_version,
    keys.rise,
    keys.spelling,
    order.once,
    order.in_order,
    order.notices,
    order.ending,
    results.results,
    results.last,
    results.joiners,
    results.letters,
    key_leaks.side_door,
)


def judge(recording: Recording) -> list[Violation]:
    """Return what did not hold; nothing: the run was right."""
    of_run = case(recording)
    return [violation for check in CHECKS for violation in check(of_run)]
