"""What must come of a log, one account at a time: the second opinion that the workers are held against."""

from typing import NamedTuple

from tests.verification.model.state import NEVER, NOBODY, Members, Scenario

NOT_BARRED = 99
"""Above every version: whoever is a member may be sent any key."""


class Truth(NamedTuple):
    """How things must be at one place of the log.

    `barred` is, for each account, the first version that it must not be sent; `last` the last event that
    touched it.
    """

    members: Members
    high: int
    barred: tuple[int, ...]
    last: tuple[int, ...]


class History(NamedTuple):
    """The truth at each place, and the version that each event needs to have settled."""

    at: dict[tuple[int, int], Truth]
    needs: tuple[int, ...]


def history(scenario: Scenario) -> History:
    """Play the log through."""
    members = [0 if account in scenario.members else NOBODY for account in range(scenario.accounts)]
    barred = [0 if member == NOBODY else NOT_BARRED for member in members]
    last = [0] * scenario.accounts
    high = 0 if scenario.keyed else NEVER
    at, needs = {(0, 0): Truth(tuple(members), high, tuple(barred), tuple(last))}, [NEVER]
    for number, event in enumerate(scenario.log, 1):
        rotates = event.kind == "rotate"
        for done, account in enumerate(event.accounts, 1):
            if event.kind == "add" and members[account] == NOBODY:
                members[account], barred[account], last[account] = number, NOT_BARRED, number
                rotates = rotates or high == NEVER
            elif event.kind == "remove" and members[account] != NOBODY:
                members[account], barred[account], last[account] = NOBODY, high + 1, number
                rotates = True
            at[number - 1, done] = Truth(tuple(members), high, tuple(barred), tuple(last))
        high += rotates
        at[number, 0] = Truth(tuple(members), high, tuple(barred), tuple(last))
        needs.append(high if rotates else NEVER)
    return History(at, tuple(needs))
