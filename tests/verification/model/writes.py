"""What the worker's two transactions do to the database, and what a batch is decided to be."""

from typing import NamedTuple

from tests.verification.model.checks import Model
from tests.verification.model.rules import Rule
from tests.verification.model.state import NOBODY, Database, Entry, Event, Key, Notice, Room, Worker


class Draft:
    """A room while a batch is being decided."""

    def __init__(self, database: Database) -> None:
        self.room = database.room
        self.place = database.place
        self.rotates = database.rotates
        self.members = list(database.room.members)
        self.high = database.room.high
        self.notices: list[Notice] = []
        self.wanting: list[int] = []
        self.results: list[int] = []

    @property
    def joiners(self) -> tuple[int, ...]:
        """Return who is owed the key that the room had before."""
        if self.room.current is None and self.room.staged is None:
            return ()
        return tuple(account for account in dict.fromkeys(self.wanting) if self.members[account] != NOBODY)

    def take(self, event: Event) -> None:
        """Let an event, or the next slice of it, take effect."""
        applied, done = self.place
        number = applied + 1
        for account in event.accounts[done : done + 1] if event.sliced else event.accounts:
            self._touch(event.kind, account, number)
        if event.sliced and done + 1 < len(event.accounts):
            self.place = (applied, done + 1)
            return
        self.high += self.rotates or event.kind == "rotate"
        self.place, self.rotates = (number, 0), False
        self.results.append(number)

    def _touch(self, kind: str, account: int, number: int) -> None:
        joins = kind == "add"
        if (self.members[account] == NOBODY) != joins:
            return
        before = self.room.members[account]
        # Whoever leaves and comes back within a batch never was gone.
        self.members[account] = NOBODY if not joins else number if before == NOBODY else before
        self.notices.append(Notice(account, number, joins))
        if joins:
            self.wanting.append(account)
        keyless = self.room.current is None and self.room.staged is None and self.high == self.room.high
        self.rotates = self.rotates or not joins or keyless


class Batch(NamedTuple):
    """A batch as it is to be written: the database after it, its entry, and the key that it stages."""

    database: Database
    entry: Entry
    staged: Key | None


def decide(model: Model, database: Database, worker: Worker, taken: int) -> Batch:
    """Decide the next events and write them."""
    draft, room = Draft(database), database.room
    for event in model.scenario.log[database.place[0] : database.place[0] + taken]:
        draft.take(event)
    free = room.staged is None or Rule.STAGED_ONCE in model.broken
    staged = (draft.high, worker.epoch) if draft.high > room.high and free else None
    entry = Entry(draft.place, tuple(draft.notices), draft.joiners, tuple(draft.results), draft.high)
    after = Room(draft.high, room.settled, room.current, staged or room.staged, tuple(draft.members))
    # What has been paid goes with the batch, or with the settling of the key that the batch stages.
    unpaid = struck(database.outbox, worker) if staged is None else database.outbox
    outbox = (*unpaid, entry)
    return Batch(Database(database.epoch, draft.place, draft.rotates, after, outbox), entry, staged)


def struck(outbox: tuple[Entry, ...], worker: Worker) -> tuple[Entry, ...]:
    """Return the outbox without what the worker has paid; an entry is known by its place."""
    paid = {entry.place for entry in worker.paid}
    return tuple(entry for entry in outbox if entry.place not in paid)


def promote(room: Room, epoch: int) -> Room:
    """Make the staged key current; if versions have risen since, the same transaction stages the next key."""
    if room.staged is None:
        return room
    version = room.staged[0]
    following = (room.high, epoch) if room.high > version else None
    return room._replace(settled=version, current=room.staged, staged=following)
