"""Invariant 3, hold before use: a key becomes current only after every member has been sent it."""

from collections.abc import Iterator

from tests.verification.oracle.analysis import Analysis
from tests.verification.oracle.checks.shown import shown
from tests.verification.oracle.recording import NEVER


def members_have_the_key_before_use(analysis: Analysis) -> Iterator[str]:
    """Every account that is a member when a key becomes current has been sent it."""
    for room_id, room, settled in analysis.settlements():
        if analysis.has_gap(settled.staged_ms, settled.at_ms):
            continue
        first = analysis.first_sent.get((room_id, settled.version), {})
        late = [
            account
            for account in room.members
            if first.get(account, NEVER) >= settled.arrived and analysis.must_get_keys(account)
        ]
        if late:
            yield f"{room_id}: version {settled.version} became current before it was sent to {shown(late)}"
