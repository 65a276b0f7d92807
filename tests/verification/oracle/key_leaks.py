"""No key leaves by the side door: keys stand in key messages and nowhere else. (design.md, 9)"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.verification.oracle.recording import Recording
from tests.verification.oracle.verdict import Case, Invariant, Violation


def side_door(case: Case) -> Iterator[Violation]:
    """No notice, result, dead letter or event holds a key."""
    recording, search = case.recording, case.recording.secrets.search()
    for heard in recording.heard:
        if search.found_in(heard.body):
            yield Violation(Invariant.SIDE_DOOR, f"a {heard.kind} to {heard.to} holds a key")
    for letter in recording.letters:
        text = b"\n".join(value.encode() for value in letter.headers.values())
        if search.found_in(letter.body) or search.found_in(text):
            sequence = letter.headers.get("Room-Worker-Sequence")
            yield Violation(Invariant.SIDE_DOOR, f"the dead letter of event {sequence} holds a key")


def side_door_of_files(recording: Recording, paths: Iterable[Path]) -> list[Violation]:
    """Look for keys in log files, line by line."""
    search = recording.secrets.search()
    found: list[Violation] = []
    for path in paths:
        with path.open("rb") as lines:
            at = search.found_in_lines(lines)
        found += [Violation(Invariant.SIDE_DOOR, f"{path.name}, line {line}, holds a key") for line, _ in at]
    return found
