"""Slices: an event with more memberships than one transaction should hold, decided some accounts at a time.

The accounts come in order, so that a place is an account. What completes the event is left to its last slice:
its orgs' rows, which make the slices before it an ordinary event with fewer accounts, and the new key, whose
version rises once. (design.md, rule e)
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from roomkeys.decisions.chunks import in_parts
from roomkeys.decisions.decide import open_draft, outcome_of, reject
from roomkeys.decisions.decision import ORG, Decision, OutboxEntry, RoomChange
from roomkeys.decisions.rules import RuleContext, SliceContext
from roomkeys.decisions.snapshot import Snapshot
from roomkeys.errors import ErrorInfo
from roomkeys.events.event import Add, Create, Remove
from roomkeys.events.position import SliceProgress

Sliceable = Create | Add | Remove


def among(event: Sliceable, accounts: Collection[str]) -> Sliceable:
    """Return the event as far as it names these accounts."""
    wanted = frozenset(accounts)
    return replace(event, accounts=tuple(account for account in event.accounts if account in wanted))


@dataclass(frozen=True, slots=True)
class SliceDecision:
    """A slice, decided: what it writes and owes, and how far the event has come then; None: to its end."""

    decision: Decision
    next: SliceProgress | None


def decide_slice(  # noqa: PLR0913 - what a slice is decided from, each part by name
    event: Sliceable,
    snapshot: Snapshot,
    so_far: SliceProgress,
    accounts: Sequence[str],
    *,
    last: bool,
    known: bool,
    site: str,
    now_ms: int,
    new_id: Callable[[], str],
    fault: ErrorInfo | None = None,
) -> SliceDecision:
    """Decide what the event does to these accounts, which come next in order and are the `last` ones or not.

    `known`: everybody whom the event names is known. With a `fault` the event is given up where it stands, but
    whoever was removed already does not keep the room's key.
    """
    part = among(event, accounts)
    desk = RuleContext(
        _scoped(snapshot, event, so_far, frozenset(accounts)),
        site,
        new_id,
        SliceContext(resumed=so_far.number > 0, is_last=last, notice_sent=so_far.notice_sent, all_users_known=known),
    )
    draft = open_draft(event.room_id, desk.snapshot)
    if so_far.room_created:
        draft.found_before()
    if fault is None:
        outcome = outcome_of(part, draft, desk, now_ms)
    else:
        outcome = reject(event, fault, site=site, now_ms=now_ms)
    final = last or outcome.error is not None
    if final and so_far.rotates and not draft.rotates:
        draft.rotate(event.stored_at_ms)
    change = draft.change()
    then = SliceProgress(
        number=so_far.number + 1,
        after=accounts[-1] if accounts else so_far.after,
        rotates=so_far.rotates or draft.rotates,
        room_created=so_far.room_created or (change is not None and change.founding is not None),
        notice_sent=so_far.notice_sent or outcome.notice is not None,
    )
    changes = () if change is None else (change if final else _unfinished(change),)
    owed = OutboxEntry(event.room_id, (replace(outcome, final=final),), draft.joiners(), draft.high)
    return SliceDecision(Decision(int(final), changes, tuple(in_parts(owed))), None if final else then)


def _scoped(snapshot: Snapshot, event: Sliceable, so_far: SliceProgress, accounts: frozenset[str]) -> Snapshot:
    """Return the snapshot without those whose turn it is not, but for the requester in the first slice."""
    inside = accounts if so_far.number else accounts | {event.requester}
    members = snapshot.members.get(event.room_id, {})
    return replace(
        snapshot,
        members={event.room_id: {account: member for account, member in members.items() if account in inside}},
        orgs={
            org: tuple(user for user in users if user.account in accounts) for org, users in snapshot.orgs.items()
        },
    )


def _unfinished(change: RoomChange) -> RoomChange:
    """Leave to the last slice what completes the event."""
    rows = tuple(row for row in change.rows if row.type != ORG)
    return replace(change, rows=rows, high=None, stage=None)
