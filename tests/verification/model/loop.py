"""The steps of the loop, in the order of docs/design.md: one function for each.

    batch → decide → apply → deliver → confirm → settle → announce

`batch` and `apply` decide, `Turn.barrier` confirms, and recovery enters at `deliver`. As in the worker, a fan-out
is planned once: the loop sends the key of a small room between `deliver` and `settle`, and a rollout sends that
of a large room, which the loop settles between two batches.
"""

from collections.abc import Iterator
from functools import partial

from tests.verification.model import checks, owed, set_aside
from tests.verification.model.apply import apply, excluded_joiners, may_commit, read_fence
from tests.verification.model.moves import Message, Move, Turn, after_delivery, announceable
from tests.verification.model.rules import Rule
from tests.verification.model.scenario import Size
from tests.verification.model.state import NO_MEMBER, Key, Notice, Phase, Received, Rollout, Step, Worker
from tests.verification.model.writes import after_settle, without_finished


def batch(turn: Turn) -> Iterator[Move]:
    """Between two batches: delete finished entries, settle a room whose pass is over, or take the next events."""
    worker, database = turn.worker, turn.state.database
    if worker.finished and (turn.has_lease or turn.without(Rule.DELETES_FENCED)):
        after = database._replace(outbox=without_finished(turn.model, database, worker))
        if turn.without(Rule.WAITING_EVENT_DELETED_IN_ONE):
            after = after._replace(waiting=worker.waiting)
        yield turn.move("deletes finished entries", worker._replace(finished=()), database=after)
    if not turn.has_lease:
        return
    if worker.position != database.position:
        if worker.position[0] < len(turn.model.scenario.log):
            yield turn.move("finds the cursor at another position", Worker())
        return
    between_events = worker.position[1] == 0 or turn.without(Rule.NO_SETTLE_BETWEEN_SLICES)
    if worker.rollout is not None and worker.rollout.phase == Phase.DONE and between_events:
        yield from settle(turn)
        if not worker.postponed:
            return
    yield from owed.served(turn)
    if worker.waiting:
        yield from set_aside.between_batches(turn)
    if not worker.waiting or turn.without(Rule.LATER_EVENTS_WAIT):
        yield from _take(turn)


def _take(turn: Turn) -> Iterator[Move]:
    """Take the next events, as many as may go into one batch."""
    worker = turn.worker
    for size in _batch_sizes(turn):
        excluded = excluded_joiners(turn, size)
        taken = worker._replace(step=Step.APPLY, batch_size=size, excluded=excluded)
        move = turn.move(f"takes a batch of {size}", taken)
        if excluded or turn.without(Rule.FENCE_IS_WRITTEN):
            yield move
        else:
            yield from apply(turn._replace(state=move.state))


def _batch_sizes(turn: Turn) -> Iterator[int]:
    """Yield how many events the batch may take; an event in slices shares its batch with no other.

    The room of a `create` is deleted before the batch that begins with it.
    """
    log, (applied, _) = turn.model.scenario.log, turn.state.database.position
    for size in range(1, min(turn.model.scenario.max_batch, len(log) - applied) + 1):
        if size > 1 and (log[applied].sliced or log[applied + size - 1].sliced):
            return
        if size > 1 and log[applied + size - 1].kind == "create":
            return
        yield size


def deliver(turn: Turn) -> Iterator[Move]:
    """Send the notices, then to the joiners the current key and the staged one of a rollout; confirm all of it."""
    worker = turn.worker
    messages: list[Message] = [
        partial(_notice, turn, notice=notice) for entry in worker.batch for notice in entry.notices
    ]
    in_rollout = None if worker.needs_fanout or turn.without(Rule.STAGED_KEY_TO_JOINERS) else worker.staged
    keys = [key for key in (worker.current, in_rollout) if key is not None]
    messages += [_key(turn, account, key) for entry in worker.batch for account in entry.joiners for key in keys]
    delivered = worker._replace(batch=(), pending=worker.pending + worker.batch, excluded=())
    excluded = () if turn.without(Rule.EXCLUDED_UNTIL_CONFIRMED) else worker.excluded
    unconfirmed = worker._replace(step=Step.UNCONFIRMED, excluded=excluded)
    for confirmed in _plan_fanout(turn, delivered):
        yield from turn.barrier("delivers", messages, confirmed, unconfirmed)
    joiners = tuple(account for entry in worker.batch for account in entry.joiners)
    if turn.state.denials and joiners and worker.staged is None and turn.has_lease:
        yield owed.denied(turn, delivered, joiners)


def _notice(turn: Turn, received: Received, notice: Notice) -> Received:
    return checks.receive_notice(turn.state.database, received, turn.worker, notice)


def _key(turn: Turn, account: int, key: Key, membership: int = 0) -> Message:
    def message(received: Received) -> Received:
        return checks.receive_key(turn.model, turn.state.database, received, account, key, membership)

    return message


def _plan_fanout(turn: Turn, worker: Worker) -> Iterator[Worker]:
    """Give a newly staged key to the loop, or begin a rollout."""
    if not worker.needs_fanout or worker.owed:
        yield after_delivery(turn.model, worker)
        return
    survivors, size = worker.survivors, turn.model.scenario.size
    worker = worker._replace(needs_fanout=False, survivors=())
    if size is not Size.LARGE:
        yield worker._replace(step=Step.READ_SURVIVORS)
        if survivors:
            yield worker._replace(step=Step.FAN_OUT, recipients=survivors)
    if size is not Size.SMALL:
        first = Phase.READ_PAGE if turn.without(Rule.KEY_BEFORE_PAGES) else Phase.READ_KEY
        yield after_delivery(turn.model, worker._replace(rollout=worker.rollout or Rollout(first)))


def read_survivors(turn: Turn) -> Iterator[Move]:
    """Read the members of a small room, after its key was written or read."""
    worker = turn.worker
    if turn.has_lease or turn.without(Rule.PAGES_UNDER_LEASE):
        recipients = worker.members_before or turn.state.database.room.members
        yield turn.move("reads the survivors", worker._replace(step=Step.FAN_OUT, recipients=recipients))


def fan_out(turn: Turn) -> Iterator[Move]:
    """Send the staged key of a small room to its members, and confirm it."""
    worker = turn.worker
    key = worker.staged
    if key is None:
        return
    messages = [_key(turn, at, key, member) for at, member in enumerate(worker.recipients) if member != NO_MEMBER]
    confirmed = worker._replace(step=Step.SETTLE, recipients=())
    unconfirmed = worker._replace(step=Step.UNCONFIRMED)
    if turn.without(Rule.CONFIRM_BEFORE_SETTLE):
        unconfirmed = confirmed
    if turn.state.denials and messages:
        waits = after_delivery(turn.model, worker._replace(recipients=(), rollout=Rollout(Phase.READ_KEY)))
        after = confirmed if turn.without(Rule.DENIED_IS_UNCONFIRMED) else waits
        text = f"is denied version {key[0]} for every survivor"
        yield turn.move(text, after, denials=turn.state.denials - 1)
    yield from turn.barrier(f"sends version {key[0]} to the survivors", messages, confirmed, unconfirmed)


def settle(turn: Turn) -> Iterator[Move]:
    """Make the staged key current; if `high` is above it, stage the next key in the same transaction.

    If that is refused it is tried again between two batches, as after a pass that is over.
    """
    worker = turn.worker
    if not may_commit(turn):
        yield from read_fence(turn)
        return
    for answered, is_taken in turn.transactions():
        if is_taken:
            yield from _settled(answered)
        else:
            after = worker._replace(rollout=Rollout(Phase.DONE), postponed=True)
            after = after if worker.step is Step.BATCH else after_delivery(turn.model, after)
            yield answered.move("is refused to settle", after)


def _settled(turn: Turn) -> Iterator[Move]:
    worker, state = turn.worker, turn.state
    room = after_settle(state.database.room, worker.epoch)
    if room is not state.database.room:
        checks.check_settled(state.database.room, room, state.received)
    received = state.received if room.staged is None else checks.check_bytes(state.received, room.staged)
    settled = worker._replace(
        current=room.current, staged=room.staged, settled=room.settled, needs_fanout=room.staged is not None,
        rollout=None, postponed=False, fence_read=None, members_before=None, finished=(),
    )  # fmt: skip
    database = state.database._replace(room=room, outbox=without_finished(turn.model, state.database, worker))
    for after in _plan_fanout(turn, settled):
        yield turn.move(f"settles version {room.settled}", after, database=database, received=received)


def announce(turn: Turn) -> Iterator[Move]:
    """Send the results whose version has settled, and confirm them; then their entries are finished."""
    worker = turn.worker
    due = announceable(turn.model, worker)
    messages: list[Message] = [partial(_result, turn, event=event) for entry in due for event in entry.results]
    pending = tuple(entry for entry in worker.pending if entry not in due)
    confirmed = worker._replace(step=Step.BATCH, pending=pending, finished=worker.finished + due)
    yield from turn.barrier("announces", messages, confirmed, worker._replace(step=Step.UNCONFIRMED))


def _result(turn: Turn, received: Received, event: int) -> Received:
    return checks.receive_result(turn.model, turn.state.database, received, event)


def crash(turn: Turn) -> Iterator[Move]:
    """Give up the lease and forget everything: an unconfirmed barrier counts as a crash."""
    yield turn.move("crashes", Worker())
