"""Invariant 9, no key leaks: key bytes are in key messages and nowhere else."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.verification.invariants import Invariant
from tests.verification.oracle.analysis import Analysis
from tests.verification.oracle.recording import Recording
from tests.verification.oracle.violation import Violation


def no_message_has_a_key(analysis: Analysis) -> Iterator[str]:
    """No notice, result, dead letter or other message contains a key."""
    recording, search = analysis.recording, analysis.recording.known_keys.search()
    for message in recording.messages:
        if search.found_in(message.body):
            yield f"a {message.kind} to {message.to} contains a key"
    for letter in recording.dead_letters:
        text = b"\n".join(value.encode() for value in letter.headers.values())
        if search.found_in(letter.body) or search.found_in(text):
            yield f"the dead letter of event {letter.headers.get('Room-Worker-Sequence')} contains a key"


def leaks_in_files(recording: Recording, paths: Iterable[Path]) -> list[Violation]:
    """Search log files for keys, line by line."""
    search = recording.known_keys.search()
    found: list[Violation] = []
    for path in paths:
        with path.open("rb") as lines:
            numbers = [number for number, _ in search.found_in_lines(lines)]
        found += [
            Violation(Invariant.NO_KEY_LEAKS, leaks_in_files.__name__, f"{path.name}, line {number}, contains a key")
            for number in numbers
        ]
    return found
