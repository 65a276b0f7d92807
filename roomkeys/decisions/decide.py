"""Deciding a batch: from its events and a snapshot of the database to what is written and sent.

Events take effect one after another on drafts of their rooms. So a batch has exactly the result that its events
would have one at a time, wherever the stream is cut into batches. (docs/design.md, The loop)
"""

from collections.abc import Sequence
from typing import Any, Final

from roomkeys.decisions.chunks import CHUNK_BYTES, in_chunks
from roomkeys.decisions.decision import DeadLetter, Decision, OutboxEntry, Outcome
from roomkeys.decisions.draft import Draft
from roomkeys.decisions.rules import NewId, RuleContext, take_effect
from roomkeys.decisions.snapshot import Snapshot
from roomkeys.errors import ErrorInfo, Rejection
from roomkeys.events.event import Add, AnyEvent, Create, Remove

MAX_ACCOUNTS: Final = 5_000
"""The most accounts that one batch touches, unless its only event touches more. (docs/design.md, rule e)"""


def decide(
    events: Sequence[AnyEvent], snapshot: Snapshot, *, site: str, now_ms: int, new_id: NewId, most: int = MAX_ACCOUNTS
) -> Decision:
    """Decide the first events, at least one, that touch up to `most` accounts. `now_ms` (epoch ms) stamps outcomes."""
    context = RuleContext(snapshot, site, new_id)
    drafts: dict[str | None, Draft] = {}
    outcomes: dict[str | None, list[Outcome]] = {}
    touched = taken = 0
    for event in events:
        touched += touches(event, snapshot)
        if taken and touched > most:
            break
        taken += 1
        draft = drafts.get(event.room_id) or Draft(event.room_id, snapshot)
        drafts[event.room_id] = draft
        outcomes.setdefault(event.room_id, []).append(outcome_of(event, draft, context, now_ms))
    changes = (drafts[room_id].change() for room_id in outcomes)
    entries = (
        OutboxEntry(room_id, tuple(of_room), drafts[room_id].joiners(), drafts[room_id].high)
        for room_id, of_room in outcomes.items()
    )
    chunks = tuple(chunk for entry in entries for chunk in in_chunks(entry))
    return Decision(taken, tuple(change for change in changes if change), chunks)


def reject(event: AnyEvent, error: ErrorInfo, *, site: str, now_ms: int) -> Outcome:
    """Return the outcome of an event that can never succeed, with its dead letter."""
    body = event.origin.body
    letter = DeadLetter(event.origin.subject, body[:CHUNK_BYTES], truncated=len(body) > CHUNK_BYTES)
    return _outcome(event, site, now_ms, error=error, letter=letter)


def touches(event: AnyEvent, snapshot: Snapshot) -> int:
    """Return how many accounts the event touches: those that it names, users of its orgs, members to backfill."""
    match event:
        case Create() | Add():
            room = snapshot.rooms.get(event.room_id)
            first = bool(event.orgs) and room is not None and not room.orgs
            backfill = len(snapshot.members.get(event.room_id, ())) if first else 0
            return event.weight + backfill + sum(len(snapshot.orgs.get(org, ())) for org in event.orgs)
        case Remove(org=str() as org):
            return event.weight + len(snapshot.orgs.get(org, ()))
        case _:
            return event.weight


def outcome_of(event: AnyEvent, draft: Draft, context: RuleContext, now_ms: int) -> Outcome:
    """Apply the event to the draft of its room and return the outcome."""
    try:
        effect = take_effect(event, draft, context)
    except Rejection as rejection:
        return reject(event, rejection.info, site=context.site, now_ms=now_ms)
    return _outcome(event, context.site, now_ms, added=effect.added, removed=effect.removed, notice=effect.notice)


def _outcome(event: AnyEvent, site: str, now_ms: int, **result: Any) -> Outcome:
    origin = event.origin
    return Outcome(
        origin.sequence, event.operation, now_ms, event.room_id, event.requester, origin.request_id, site, **result
    )
