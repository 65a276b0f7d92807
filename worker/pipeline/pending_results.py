"""Debts: what has been delivered and waits for a room's key to settle, and what has been paid."""

from collections.abc import Container, Iterable
from dataclasses import replace
from itertools import takewhile
from typing import Final

from store.writes.outbox import StoredEntry

MOST_HELD: Final = 20_000
"""Results that may wait for drained rooms; beyond that the loop waits too. (design.md, invariant 8)"""


class PendingResults:
    """The outbox entries of one partition that have been delivered."""

    def __init__(self) -> None:
        self.finished_ids: list[str] = []
        self._held: dict[str, list[StoredEntry]] = {}

    @property
    def is_full(self) -> bool:
        """Tell whether no more should be added before some are paid."""
        held = (entry for of_room in self._held.values() for entry in of_room)
        return sum(len(entry.owed.outcomes) for entry in held) > MOST_HELD

    def defer(self, entries: Iterable[StoredEntry], drained: Container[str]) -> list[StoredEntry]:
        """Keep the entries of drained rooms, whose results have to wait, and return the others.

        All of them, in order: an entry that went before an older one of its room would leave recovery with what
        is no longer so to tell last.
        """
        due: list[StoredEntry] = []
        for entry in entries:
            room_id = entry.owed.room_id
            if room_id is not None and room_id in drained:
                self._held.setdefault(room_id, []).append(without_members(entry))
            else:
                due.append(entry)
        return due

    def release(self, room_id: str, settled: float) -> list[StoredEntry]:
        """Return, and keep no longer, the entries of a room that waited for a version up to this one."""
        held = self._held.pop(room_id, [])
        due = list(takewhile(lambda entry: entry.owed.high is None or entry.owed.high <= settled, held))
        if len(due) < len(held):
            self._held[room_id] = held[len(due) :]
        return due


def without_members(entry: StoredEntry) -> StoredEntry:
    """Return an entry with no more than its results need."""
    outcomes = (replace(one, added=(), removed=(), notice=None, letter=None) for one in entry.owed.outcomes)
    return StoredEntry(entry.id, replace(entry.owed, joiners=(), outcomes=tuple(outcomes)))
