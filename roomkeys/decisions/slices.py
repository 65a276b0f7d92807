"""Slices: an event with more memberships than one transaction should have, decided some accounts at a time.

Slices go through the accounts in order, so a position in the event is an account. Two things are left to the last
slice: the reasons of the event's orgs, so that every slice before it is an ordinary event with fewer accounts; and
the new key, so that the version rises once. (docs/design.md, rule e)
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from roomkeys.decisions.chunks import in_chunks
from roomkeys.decisions.decide import outcome_of, reject
from roomkeys.decisions.decision import ORG, Decision, OutboxEntry, Outcome, RoomChange
from roomkeys.decisions.draft import Draft
from roomkeys.decisions.rules import NewId, RuleContext, SliceContext
from roomkeys.decisions.snapshot import Snapshot
from roomkeys.errors import ErrorInfo
from roomkeys.events.event import Add, Create, Remove
from roomkeys.events.position import SliceProgress

Sliceable = Create | Add | Remove


def among(event: Sliceable, accounts: Collection[str]) -> Sliceable:
    """Return the event with only those of its accounts that are among `accounts`."""
    wanted = frozenset(accounts)
    return replace(event, accounts=tuple(account for account in event.accounts if account in wanted))


@dataclass(frozen=True, slots=True)
class EventSlice:
    """One slice of an event: its accounts, in order, and the progress before it. The rest is as in `SliceContext`."""

    event: Sliceable
    progress: SliceProgress
    accounts: Sequence[str] = ()
    is_last: bool = True
    unknown_account: str | None = None


@dataclass(frozen=True, slots=True)
class SliceDecision:
    """A decided slice: what it writes and owes, and the event's progress after it; None: the event is complete."""

    decision: Decision
    next: SliceProgress | None


def decide_slice(
    slice_: EventSlice, snapshot: Snapshot, *, site: str, now_ms: int, new_id: NewId, error: ErrorInfo | None = None
) -> SliceDecision:
    """Decide what the event does to the accounts of one slice.

    `snapshot`, `now_ms` and `new_id` are those of `decide`. With an `error` the event is given up and this is its
    last slice. Members whom an earlier slice removed still lose the room's key.
    """
    event, progress = slice_.event, slice_.progress
    slice_context = SliceContext(progress.number > 0, slice_.is_last, progress.notice_sent, slice_.unknown_account)
    context = RuleContext(_snapshot_of(slice_, snapshot), site, new_id, slice_context)
    draft = Draft(event.room_id, context.snapshot)
    if progress.room_created:
        draft.begin_versions(event.origin.time_ms)
    given_up = None if error is None else reject(event, error, site=site, now_ms=now_ms)
    outcome = given_up or outcome_of(among(event, slice_.accounts), draft, context, now_ms)
    final = slice_.is_last or outcome.error is not None
    if final and progress.rotates and not draft.rotates:
        draft.rotate(event.origin.time_ms)
    change = draft.change()
    if change is not None and progress.number > 0 and not isinstance(event, Remove):
        change = replace(change, reasons_cleared=False)  # the first slice has cleared what was there before the org
    changes = () if change is None else (change if final else _without_completion(change),)
    entry = OutboxEntry(event.room_id, (replace(outcome, final=final),), draft.joiners(), draft.high)
    decision = Decision(int(final), changes, tuple(in_chunks(entry)))
    return SliceDecision(decision, None if final else _progress_after(slice_, draft, outcome))


def _progress_after(slice_: EventSlice, draft: Draft, outcome: Outcome) -> SliceProgress:
    progress = slice_.progress
    return SliceProgress(
        number=progress.number + 1,
        after=slice_.accounts[-1] if slice_.accounts else progress.after,
        rotates=progress.rotates or draft.rotates,
        room_created=progress.room_created or draft.created,
        notice_sent=progress.notice_sent or outcome.notice is not None,
    )


def _snapshot_of(slice_: EventSlice, snapshot: Snapshot) -> Snapshot:
    """Return the snapshot without the accounts of other slices; the requester belongs to the first slice."""
    event, accounts = slice_.event, frozenset(slice_.accounts)
    inside = accounts if slice_.progress.number else accounts | {event.requester}
    members = snapshot.members.get(event.room_id, {})
    members = {account: member for account, member in members.items() if account in inside}
    orgs = {org: tuple(user for user in users if user.account in accounts) for org, users in snapshot.orgs.items()}
    return replace(snapshot, members={event.room_id: members}, orgs=orgs)


def _without_completion(change: RoomChange) -> RoomChange:
    """Return the change without what the last slice writes: the reasons of orgs, and the new version."""
    reasons = tuple(reason for reason in change.reasons if reason.type != ORG)
    return replace(change, reasons=reasons, high=None, stage=None, first_use=False)
