"""Results that wait for a key: entries that were delivered, whose rooms have not settled yet."""

from collections.abc import Container, Iterable
from dataclasses import replace
from itertools import takewhile

from store.writes.outbox import StoredEntry


class PendingResults:
    """The delivered outbox entries of one partition whose results wait for their room to settle."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[str, list[StoredEntry]] = {}

    @property
    def is_full(self) -> bool:
        """Tell whether the partition should take no further batch before some results are published."""
        waiting = (entry for of_room in self._waiting.values() for entry in of_room)
        return sum(len(entry.content.outcomes) for entry in waiting) > self._most

    def defer(self, entries: Iterable[StoredEntry], unsettled: Container[str]) -> list[StoredEntry]:
        """Keep the entries of unsettled rooms and return the others.

        All entries of an unsettled room wait, in order. Otherwise recovery could replay an older entry after a
        newer one and publish stale notices last.
        """
        due: list[StoredEntry] = []
        for entry in entries:
            room_id = entry.content.room_id
            if room_id is not None and room_id in unsettled:
                self._waiting.setdefault(room_id, []).append(without_members(entry))
            else:
                due.append(entry)
        return due

    def release(self, room_id: str, settled: float) -> list[StoredEntry]:
        """Return, and keep no longer, the room's entries that wait for a version of at most `settled`."""
        waiting = self._waiting.pop(room_id, [])
        due = list(takewhile(lambda entry: entry.content.high is None or entry.content.high <= settled, waiting))
        if len(due) < len(waiting):
            self._waiting[room_id] = waiting[len(due) :]
        return due


def without_members(entry: StoredEntry) -> StoredEntry:
    """Return the entry with only what its results need: its notices and joiners' keys are out already."""
    outcomes = (replace(one, added=(), removed=(), notice=None, letter=None) for one in entry.content.outcomes)
    return StoredEntry(entry.id, replace(entry.content, joiners=(), outcomes=tuple(outcomes)))
