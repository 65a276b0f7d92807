"""The oracle judges: did a run, as recorded, keep every invariant?"""

from typing import Final

from tests.verification.invariants import Invariant
from tests.verification.oracle.analysis import analyse
from tests.verification.oracle.checks import (
    dead_letters,
    exclusion,
    hold_before_use,
    key_leaks,
    keys,
    order,
    reach,
    results,
)
from tests.verification.oracle.recording import Recording
from tests.verification.oracle.violation import Check, Violation

CHECKS: Final = (
    Check(Invariant.REACH, reach.every_rotation_reaches_the_members),
    Check(Invariant.REACH, reach.last_version_reaches_the_members),
    Check(Invariant.REACH, reach.joiners_are_sent_the_current_key),
    Check(Invariant.EXCLUSION, exclusion.no_later_key_after_a_removal),
    Check(Invariant.EXCLUSION, exclusion.new_key_is_in_use_before_the_result),
    Check(Invariant.HOLD_BEFORE_USE, hold_before_use.members_have_the_key_before_use),
    Check(Invariant.ONE_KEY_PER_VERSION, keys.one_key_per_version),
    Check(Invariant.ONE_KEY_PER_VERSION, keys.one_version_per_key),
    Check(Invariant.ONE_KEY_PER_VERSION, keys.versions_rise),
    Check(Invariant.SAME_BYTES, keys.payloads_are_well_formed),
    Check(Invariant.SAME_BYTES, keys.one_payload_reaches_all),
    Check(Invariant.ORDER_ONCE, order.every_version_has_an_event),
    Check(Invariant.ORDER_ONCE, order.repeated_messages_are_identical),
    Check(Invariant.ORDER_ONCE, order.messages_are_in_stream_order),
    Check(Invariant.ORDER_ONCE, order.notices_match_the_events),
    Check(Invariant.ORDER_ONCE, order.notice_comes_before_the_first_key),
    Check(Invariant.ORDER_ONCE, order.database_matches_the_events),
    Check(Invariant.ORDER_ONCE, results.results_match_the_events),
    Check(Invariant.ORDER_ONCE, results.result_is_the_last_message),
    Check(Invariant.ORDER_ONCE, results.first_key_comes_before_the_result),
    Check(Invariant.ORDER_ONCE, dead_letters.dead_letters_match_the_events),
    Check(Invariant.NO_KEY_LEAKS, key_leaks.no_message_has_a_key),
)
"""All checks, by invariant."""


def find_violations(recording: Recording) -> list[Violation]:
    """Return everything that is wrong in a run."""
    analysis = analyse(recording)
    return [Violation(check.invariant, check.name, text) for check in CHECKS for text in check.find(analysis)]
