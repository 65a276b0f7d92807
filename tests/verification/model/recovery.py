"""A takeover, and what the new owner reads before it delivers what the outbox says."""

from collections.abc import Iterator

from tests.verification.model.checks import Model
from tests.verification.model.moves import Move, Turn, after_delivery, is_harmless
from tests.verification.model.rules import Rule
from tests.verification.model.state import NO_MEMBER, Database, Members, OutboxEntry, Position, State, Step, Worker


def takeovers(model: Model, state: State) -> Iterator[Move]:
    """Let each worker take the lease: always if no worker serves it, otherwise while takeovers are left."""
    served = any(worker.epoch == state.database.epoch for worker in state.workers if worker.epoch)
    if served and not state.takeovers:
        return
    database = _as_read(model, state.database._replace(epoch=state.database.epoch + 1))
    waiting = () if Rule.WAITING_EVENTS_READ_BACK in model.left_out else database.waiting
    owner = Worker(database.epoch, Step.READ_OUTBOX, database.position, waiting=waiting)
    tried = set()
    for index in range(len(state.workers)):
        others = (*state.workers[:index], *state.workers[index + 1 :])
        if others in tried:
            continue
        tried.add(others)
        kept = tuple(Worker() if is_harmless(model, other) else other for other in others)
        workers = tuple(sorted((owner, *kept), key=lambda worker: -worker.epoch))
        left = state.takeovers - served
        after = state._replace(database=database, workers=workers, takeovers=left)
        yield Move(database.epoch, "takes the lease", after)


def _as_read(model: Model, database: Database) -> Database:
    """Return the database as the new owner reads the cursor document."""
    applied, slices = database.position
    if Rule.SLICE_POSITION_SAVED in model.left_out and slices:
        return database._replace(position=(applied + 1, 0), rotates=False)
    if Rule.SLICE_ROTATION_SAVED in model.left_out:
        return database._replace(rotates=False)
    return database


def read_outbox(turn: Turn) -> Iterator[Move]:
    """Read the outbox."""
    entries = turn.state.database.outbox
    if turn.without(Rule.EVERY_ENTRY_RESENT):
        # The loop takes no batch before the one before it is delivered and confirmed.
        entries = tuple(_if_last(entry, turn.state.database.effective) for entry in entries)
    if turn.without(Rule.JOINERS_IN_OUTBOX):
        entries = tuple(entry._replace(joiners=()) for entry in entries)
    if turn.without(Rule.DECIDED_ONCE):
        # The memberships are already as the batch left them, so a second decision changes none.
        entries = tuple(entry._replace(joiners=(), notices=()) for entry in entries)
    after = Step.READ_MEMBERS if turn.without(Rule.RECOVERY_READS_KEYS_FIRST) else Step.READ_KEYS
    yield turn.move("reads the outbox", turn.worker._replace(step=after, batch=entries))


def read_keys(turn: Turn) -> Iterator[Move]:
    """Read the keys of the rooms that the outbox names."""
    worker, database = turn.worker, turn.state.database
    room = database.room
    after = Step.DELIVER if turn.without(Rule.RECOVERY_READS_KEYS_FIRST) else Step.READ_MEMBERS
    staged = room.staged if worker.batch else None
    if staged is not None and turn.without(Rule.STAGED_BYTES_KEPT):
        staged = (staged[0], worker.epoch)
        database = database._replace(room=room._replace(staged=staged))
    read = worker._replace(
        step=after, current=room.current, staged=staged, settled=room.settled, needs_fanout=staged is not None
    )
    yield turn.move("reads the keys", _deliver_or_batch(turn, read), database=database)


def read_members(turn: Turn) -> Iterator[Move]:
    """Read which of the joiners in the outbox are still members."""
    members = turn.state.database.room.members
    entries = tuple(_for_members(entry, members) for entry in turn.worker.batch)
    after = Step.READ_KEYS if turn.without(Rule.RECOVERY_READS_KEYS_FIRST) else Step.DELIVER
    worker = turn.worker._replace(step=after, batch=entries)
    yield turn.move("reads the members", _deliver_or_batch(turn, worker))


def _deliver_or_batch(turn: Turn, worker: Worker) -> Worker:
    """Return the worker at its next step: without entries there is nothing to deliver."""
    if worker.step is Step.DELIVER and not worker.batch:
        return after_delivery(turn.model, worker)
    return worker


def _if_last(entry: OutboxEntry, position: Position) -> OutboxEntry:
    return entry if entry.position == position else entry._replace(joiners=(), notices=())


def _for_members(entry: OutboxEntry, members: Members) -> OutboxEntry:
    return entry._replace(joiners=tuple(account for account in entry.joiners if members[account] != NO_MEMBER))
