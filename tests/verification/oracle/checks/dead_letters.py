"""Invariant 6, order, once: an event has one dead letter if it can never succeed. (docs/contract.md, section 4)"""

from collections import Counter
from collections.abc import Iterator

from roomkeys import subjects
from tests.verification.oracle.analysis import Analysis
from tests.verification.oracle.recording import DeadLetter
from tests.verification.oracle.timeline import TimelineEntry

_TRUNCATED = "Room-Worker-Truncated"


def dead_letters_match_the_events(analysis: Analysis) -> Iterator[str]:
    """Each event that can never succeed has one dead letter, with its body and reason; no other event has one."""
    site, entries = analysis.recording.site, {entry.sequence: entry for entry in analysis.timeline.entries}
    counts: Counter[int] = Counter()
    for letter in analysis.recording.dead_letters:
        sequence = int(letter.headers.get("Room-Worker-Sequence", "0"))
        if sequence <= analysis.recording.applied_before:
            continue
        counts[sequence] += 1
        entry = entries.get(sequence)
        if entry is None or entry.outcome.error is None:
            yield f"event {sequence} has a dead letter although it can succeed"
        elif wrong := _wrong(letter, entry, site):
            yield f"the dead letter of event {sequence} is wrong in {', '.join(wrong)}"
    for sequence, entry in entries.items():
        if entry.outcome.error is not None and counts[sequence] != 1:
            yield f"event {sequence} has {counts[sequence]} dead letters"


def _wrong(letter: DeadLetter, entry: TimelineEntry, site: str) -> list[str]:
    code, reason = entry.outcome.error or ("", "")
    expected = {
        "Nats-Msg-Id": f"{subjects.events_stream(site)}:{entry.sequence}",
        "Room-Worker-Code": code,
        "Room-Worker-Reason": reason,
        "Room-Worker-Subject": entry.event.subject,
        "Room-Worker-Sequence": str(entry.sequence),
    }
    wrong = [name for name, value in expected.items() if letter.headers.get(name) != value]
    body = entry.event.body
    cut = letter.headers.get(_TRUNCATED) == "true" and body.startswith(letter.body)
    return wrong if letter.body == body or cut else [*wrong, "its body"]
