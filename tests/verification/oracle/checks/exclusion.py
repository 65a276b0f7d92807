"""Invariant 2, exclusion: an account is sent no key that is made with or after its removal."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate

from tests.verification.oracle.analysis import CLOCK_MS, Analysis
from tests.verification.oracle.checks.shown import shown
from tests.verification.oracle.recording import NEVER, ChangeKind, MessageKind


def no_later_key_after_a_removal(analysis: Analysis) -> Iterator[str]:
    """No account is sent a key that was made with or after its removal, unless it came back."""
    for (room_id, version), accounts in analysis.first_sent.items():
        made_by = analysis.timeline.made_by.get(room_id, {}).get(version)
        if made_by is None:
            continue
        removed = [one for one in accounts if not analysis.timeline.was_member_since(room_id, one, made_by)]
        if removed:
            text = f"{room_id}: version {version} of event {made_by} was sent to {shown(removed)}"
            yield f"{text}, not a member since"


def new_key_is_in_use_before_the_result(analysis: Analysis) -> Iterator[str]:
    """When the result of a rotating event goes out, its version or a later one is current."""
    uses = _first_uses(analysis)
    for entry in analysis.timeline.entries:
        results = analysis.messages_of(entry, MessageKind.RESULT) if entry.rotated else []
        if results and entry.room is not None and entry.version is not None:
            versions, times = uses.get(entry.room, ([], []))
            at = bisect_left(versions, entry.version)
            since_ms = times[at] if at < len(times) else NEVER
            if analysis.recording.times[results[0].arrival] + CLOCK_MS < since_ms:
                text = f"{entry.room}: the result of event {entry.sequence} went out before its version"
                yield f"{text} {entry.version} was current"


def _first_uses(analysis: Analysis) -> dict[str, tuple[list[int], list[int]]]:
    """Return per room its versions, rising, and when each of them or a later one first became current."""
    uses: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for change in analysis.recording.changes:
        if change.kind is ChangeKind.CURRENT and change.version is not None:
            uses[change.room].setdefault(change.version, change.at_ms)
    found = {}
    for room_id, of_room in uses.items():
        versions = sorted(of_room)
        times = list(accumulate((of_room[version] for version in reversed(versions)), min))
        found[room_id] = (versions, times[::-1])
    return found
