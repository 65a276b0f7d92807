"""What a batch is decided to be, and what the two transactions of the worker do to the database."""

from typing import NamedTuple

from tests.verification.model.checks import Model, check_order
from tests.verification.model.rules import Rule
from tests.verification.model.scenario import Event
from tests.verification.model.state import (
    NO_MEMBER,
    NO_VERSION,
    Database,
    Key,
    Notice,
    OutboxEntry,
    Position,
    Room,
    Worker,
)


class Draft:
    """The room while a batch is being decided."""

    def __init__(self, model: Model, database: Database, position: Position) -> None:
        self.room = database.room
        self.first_version = 0 if Rule.VERSIONS_OUTLIVE_ROOM in model.left_out else database.highest + 1
        self.position = position
        self.rotates = database.rotates
        self.members = list(database.room.members)
        self.high = database.room.high
        self.notices: list[Notice] = []
        self.joined: list[int] = []
        self.results: list[int] = []
        self.letters: list[int] = []

    @property
    def joiners(self) -> tuple[int, ...]:
        """Return the accounts that get the key that the room had before the batch."""
        if self.room.current is None and self.room.staged is None:
            return ()
        return tuple(account for account in dict.fromkeys(self.joined) if self.members[account] != NO_MEMBER)

    def take_effect(self, event: Event) -> None:
        """Apply an event, or its next slice."""
        applied, slices = self.position
        number = applied + 1
        if event.kind == "create":
            self._begin_again()
        for account in event.accounts[slices : slices + 1] if event.sliced else event.accounts:
            self._touch(event.kind, account, number)
        if event.sliced and slices + 1 < len(event.accounts):
            self.position = (applied, slices + 1)
            return
        self.high += self.rotates or event.kind == "rotate"
        if event.kind == "create":
            self.high = self.first_version
        self.position, self.rotates = (number, 0), False
        self.results.append(number)
        if event.kind == "reject":
            self.letters.append(number)

    def _begin_again(self) -> None:
        """Forget the room: its document and its memberships are gone."""
        self.members = [NO_MEMBER] * len(self.members)
        self.high = NO_VERSION
        self.room = Room(NO_VERSION, NO_VERSION, None, None, tuple(self.members))

    def _touch(self, kind: str, account: int, number: int) -> None:
        joins = kind != "remove"
        if (self.members[account] == NO_MEMBER) != joins:
            return
        before = self.room.members[account]
        # An account that leaves and comes back within a batch keeps the membership that it had.
        self.members[account] = NO_MEMBER if not joins else number if before == NO_MEMBER else before
        self.notices.append(Notice(account, number, joins))
        if joins:
            self.joined.append(account)
        has_no_key = self.room.current is None and self.room.staged is None and self.high == self.room.high
        self.rotates = self.rotates or not joins or has_no_key


class Decision(NamedTuple):
    """A batch that is to be applied: the database after it, its outbox entry, and the key that it stages.

    `waiting` are the events that wait after it, and `letters` those whose dead letter only memory knows.
    """

    database: Database
    entry: OutboxEntry
    staged: Key | None
    waiting: tuple[int, ...]
    letters: tuple[int, ...] = ()


def decide(model: Model, database: Database, worker: Worker, batch_size: int) -> Decision:
    """Decide a batch of the next events; without a size, the event that has waited longest."""
    waiting = None if batch_size else worker.waiting[0]
    first = database.position[0] if waiting is None else waiting - 1
    draft = Draft(model, database, (first, database.position[1]))
    for event in model.scenario.log[first : first + (batch_size or 1)]:
        draft.take_effect(event)
    done, room = len(draft.results), draft.room
    database = _moved(model, database, draft, waiting)._replace(done=database.done + done)
    may_stage = room.staged is None or Rule.ONE_STAGED_KEY in model.left_out
    staged = (draft.high, worker.epoch) if draft.high > room.high and may_stage else None
    entry = OutboxEntry(database.effective, tuple(draft.notices), draft.joiners, tuple(draft.results), draft.high)
    after = Room(draft.high, room.settled, room.current, staged or room.staged, tuple(draft.members))
    # Finished entries are deleted with the batch, or with the settling of the key that the batch stages.
    kept = without_finished(model, database, worker) if staged is None else database.outbox
    left = worker.waiting[1:] if waiting is not None and done else worker.waiting
    database = database._replace(room=after, highest=max(database.highest, draft.high), outbox=(*kept, entry))
    letters = tuple(draft.letters)
    if Rule.LETTER_IN_OUTBOX in model.left_out:
        return Decision(database, entry, staged, left, letters)
    return Decision(database._replace(letters=database.letters + letters), entry, staged, left)


def _moved(model: Model, database: Database, draft: Draft, waiting: int | None) -> Database:
    """Return the database with the cursor after the events; one that has waited leaves the cursor where it is."""
    if draft.results:
        check_order(database, draft.results[0])
    if waiting is None:
        return database._replace(position=draft.position, rotates=draft.rotates)
    kept = database.waiting[bool(draft.results) :]
    if Rule.WAITING_EVENT_DELETED_IN_ONE in model.left_out:
        kept = database.waiting
    slices = 0 if draft.results else draft.position[1]
    return database._replace(position=(database.position[0], slices), rotates=draft.rotates, waiting=kept)


def given_up(model: Model, database: Database, worker: Worker) -> Decision:
    """Reject the event that has waited longest."""
    number = worker.waiting[0]
    check_order(database, number)
    database = database._replace(done=number, waiting=database.waiting[1:])
    entry = OutboxEntry(database.effective, (), (), (number,), database.room.high)
    kept = without_finished(model, database, worker)
    return Decision(database._replace(outbox=(*kept, entry)), entry, None, worker.waiting[1:])


def without_finished(model: Model, database: Database, worker: Worker) -> tuple[OutboxEntry, ...]:
    """Return the outbox without the entries that the worker has finished."""
    finished = {entry.position for entry in worker.finished}
    if Rule.LETTER_APART in model.left_out:
        finished -= {entry.position for entry in database.outbox if set(entry.results) & set(database.letters)}
    return tuple(entry for entry in database.outbox if entry.position not in finished)


def after_settle(room: Room, epoch: int) -> Room:
    """Return the room with its staged key settled; if `high` is above it, a key of that version is staged."""
    if room.staged is None:
        return room
    version = room.staged[0]
    next_staged = (room.high, epoch) if room.high > version else None
    return room._replace(settled=version, current=room.staged, staged=next_staged)
