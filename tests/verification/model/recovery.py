"""A takeover, and what the new owner reads before it goes on."""

from collections.abc import Iterator

from tests.verification.model.checks import Model
from tests.verification.model.moves import Move, Turn, fenced_off, rest
from tests.verification.model.rules import Rule
from tests.verification.model.state import NOBODY, Database, Entry, State, Step, Worker


def takes(model: Model, state: State) -> Iterator[Move]:
    """Let each worker take the lease: when nobody serves it, and else while takeovers are left."""
    served = any(worker.epoch == state.database.epoch for worker in state.workers if worker.epoch)
    if served and not state.takes:
        return
    database = _as_found(model, state.database._replace(epoch=state.database.epoch + 1))
    fresh = Worker(database.epoch, Step.ENTRIES, database.place)
    tried = set()
    for at in range(len(state.workers)):
        others = (*state.workers[:at], *state.workers[at + 1 :])
        if others in tried:
            continue
        tried.add(others)
        kept = tuple(Worker() if fenced_off(model, other) else other for other in others)
        workers = tuple(sorted((fresh, *kept), key=lambda worker: -worker.epoch))
        left = state.takes - served
        yield Move(
            database.epoch, "takes the lease", state._replace(database=database, workers=workers, takes=left)
        )


def _as_found(model: Model, database: Database) -> Database:
    """Return what a new owner takes the cursor document to say."""
    applied, done = database.place
    if Rule.PLACE_SAVED in model.broken and done:
        return database._replace(place=(applied + 1, 0), rotates=False)
    if Rule.ROTATION_SAVED in model.broken:
        return database._replace(rotates=False)
    return database


def entries(turn: Turn) -> Iterator[Move]:
    """Read the outbox."""
    found = turn.state.database.outbox
    if turn.without(Rule.ALL_RESENT):
        # The loop takes no batch before the one before it is delivered and confirmed.
        found = tuple(_if_last(entry, turn.state.database.place) for entry in found)
    if turn.without(Rule.JOINERS_KEPT):
        found = tuple(entry._replace(joiners=()) for entry in found)
    if turn.without(Rule.DECIDED_ONCE):
        # Against the memberships that the batch has left there is nothing to do any more.
        found = tuple(entry._replace(joiners=(), notices=()) for entry in found)
    then = Step.MEMBERS if turn.without(Rule.KEYS_THEN_MEMBERS) else Step.KEYS
    yield turn.move("reads the outbox", turn.worker._replace(step=then, work=found))


def keys(turn: Turn) -> Iterator[Move]:
    """Read the keys of the rooms that the outbox names."""
    worker, database = turn.worker, turn.state.database
    room = database.room
    owed = bool(worker.work)
    then = Step.DELIVER if turn.without(Rule.KEYS_THEN_MEMBERS) else Step.MEMBERS
    staged = room.staged if owed else None
    if staged is not None and turn.without(Rule.BYTES_KEPT):
        staged = (staged[0], worker.epoch)
        database = database._replace(room=room._replace(staged=staged))
    after = worker._replace(
        step=then, current=room.current, staged=staged, settled=room.settled, fresh=staged is not None
    )
    yield turn.move("reads the keys", _ready(turn, after), database=database)


def members(turn: Turn) -> Iterator[Move]:
    """Read which of the outbox's joiners are still members."""
    now = turn.state.database.room.members
    work = tuple(_for_members(entry, now) for entry in turn.worker.work)
    then = Step.KEYS if turn.without(Rule.KEYS_THEN_MEMBERS) else Step.DELIVER
    yield turn.move("reads the members", _ready(turn, turn.worker._replace(step=then, work=work)))


def _ready(turn: Turn, worker: Worker) -> Worker:
    """Let a worker that owes nothing go on at once."""
    if worker.step == Step.DELIVER and not worker.work:
        return rest(turn.model, worker)
    return worker


def _if_last(entry: Entry, place: tuple[int, int]) -> Entry:
    return entry if entry.place == place else entry._replace(joiners=(), notices=())


def _for_members(entry: Entry, now: tuple[int, ...]) -> Entry:
    return entry._replace(joiners=tuple(account for account in entry.joiners if now[account] != NOBODY))
