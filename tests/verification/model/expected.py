"""What a log must lead to, computed one account at a time and without the protocol."""

from typing import NamedTuple

from tests.verification.model.scenario import Scenario
from tests.verification.model.state import NO_MEMBER, NO_VERSION, Members, Position

ALL_ALLOWED = 99
"""Above every version: a member may be sent any key."""


class Expected(NamedTuple):
    """What must hold when a position of the log has been applied.

    Per account: `first_barred` is the first version that it must not be sent, `last_events` the last event that
    added or removed it.
    """

    members: Members
    high: int
    first_barred: tuple[int, ...]
    last_events: tuple[int, ...]


class Expectations(NamedTuple):
    """What must hold at each position, and the version that must have settled before the result of each event."""

    at: dict[Position, Expected]
    needed_versions: tuple[int, ...]


def expectations(scenario: Scenario) -> Expectations:
    """Apply the log to a list of members. An event that the database refuses has no effect."""
    members = [0 if account in scenario.members else NO_MEMBER for account in range(scenario.accounts)]
    barred = [0 if member == NO_MEMBER else ALL_ALLOWED for member in members]
    last = [0] * scenario.accounts
    high = 0 if scenario.has_key else NO_VERSION
    at, needed = {(0, 0): Expected(tuple(members), high, tuple(barred), tuple(last))}, [NO_VERSION]
    for number, event in enumerate(scenario.log, 1):
        is_refused = number in scenario.refused
        rotates = event.kind in ("rotate", "create") and not is_refused
        if event.kind == "create" and not is_refused:
            barred = [high + 1 if member != NO_MEMBER else first for member, first in zip(members, barred, strict=True)]
            members = [NO_MEMBER] * len(members)
        for slices, account in enumerate(() if is_refused else event.accounts, 1):
            if event.kind in ("add", "create") and members[account] == NO_MEMBER:
                members[account], barred[account], last[account] = number, ALL_ALLOWED, number
                rotates = rotates or high == NO_VERSION
            elif event.kind == "remove" and members[account] != NO_MEMBER:
                members[account], barred[account], last[account] = NO_MEMBER, high + 1, number
                rotates = True
            at[number - 1, slices] = Expected(tuple(members), high, tuple(barred), tuple(last))
        high += rotates
        at[number, 0] = Expected(tuple(members), high, tuple(barred), tuple(last))
        needed.append(high if rotates else NO_VERSION)
    return Expectations(at, tuple(needed))
