"""The transaction of a batch: it is decided and written, meets a conflict, or is refused."""

from collections.abc import Iterator

from tests.verification.model import checks
from tests.verification.model.moves import Move, Turn
from tests.verification.model.rules import Rule
from tests.verification.model.scenario import Size
from tests.verification.model.state import NO_MEMBER, Phase, Rollout, Step, Worker
from tests.verification.model.writes import Decision, decide


def excluded_joiners(turn: Turn, batch_size: int) -> tuple[int, ...]:
    """Return the accounts that the batch makes members of a large room: the rollout excludes them."""
    worker, database = turn.worker, turn.state.database
    beside = worker.rollout is not None or worker.owed
    if not beside or turn.without(Rule.JOINERS_EXCLUDED) or turn.without(Rule.EXCLUDED_BEFORE_COMMIT):
        return ()
    joiners = decide(turn.model, database, worker, batch_size).entry.joiners
    every_joiner = turn.without(Rule.ONLY_NEW_MEMBERS_EXCLUDED)
    return tuple(one for one in joiners if every_joiner or database.room.members[one] == NO_MEMBER)


def apply(turn: Turn) -> Iterator[Move]:
    """Decide the batch and write it in one transaction; after a conflict nothing is written."""
    worker, state = turn.worker, turn.state
    if worker.position != state.database.position:
        yield turn.move("finds the cursor at another position", Worker())
        return
    if not may_commit(turn):
        yield from read_fence(turn)
        return
    if state.conflicts and worker.excluded:
        yield turn.move("meets a conflict", again(worker), conflicts=state.conflicts - 1)
    events = range(state.database.position[0] + 1, state.database.position[0] + worker.batch_size + 1)
    for answered, is_taken in turn.transactions(is_refused=turn.model.scenario.refuses(events)):
        yield from _write(answered) if is_taken else _refused(answered)


def again(worker: Worker) -> Worker:
    """Return the worker after a transaction of which nothing was written."""
    return worker._replace(step=Step.BATCH, batch_size=0, fence_read=None)


def _write(turn: Turn) -> Iterator[Move]:
    worker, state = turn.worker, turn.state
    decision = decide(turn.model, state.database, worker, worker.batch_size)
    if turn.without(Rule.DOUBT_IS_A_CRASH):
        yield turn.move(f"takes a batch of {worker.batch_size} for applied", _applied(turn, decision))
    yield commit(turn, f"applies up to {decision.database.position}", decision)


def _refused(turn: Turn) -> Iterator[Move]:
    """Try again with other batches; an event that is refused alone is to be set aside."""
    worker = again(turn.worker)
    if turn.worker.batch_size == 1 and worker.position[1] == 0:
        worker = worker._replace(step=Step.SET_ASIDE)
    yield turn.move(f"is refused a batch of {turn.worker.batch_size}", worker)


def commit(turn: Turn, text: str, decision: Decision) -> Move:
    """Write a decision: the worker has to deliver it."""
    state = turn.state
    received = state.received if decision.staged is None else checks.check_bytes(state.received, decision.staged)
    checks.check_applied(turn.model, decision.database)
    return turn.move(text, _applied(turn, decision), database=decision.database, received=received)


def _applied(turn: Turn, decision: Decision) -> Worker:
    """Return the worker after its transaction has committed."""
    worker, room, before = turn.worker, decision.database.room, turn.state.database.room
    needs_fanout = decision.staged is not None and worker.rollout is None
    members_before = worker.members_before
    if turn.without(Rule.SURVIVORS_AFTER_KEY) and needs_fanout:
        members_before = before.members
    after = worker._replace(
        step=Step.DELIVER, position=decision.database.position, batch=(decision.entry,), batch_size=0,
        waiting=decision.waiting, letters=worker.letters + decision.letters,
        finished=worker.finished if decision.staged is not None else (), fence_read=None, current=room.current,
        staged=room.staged, needs_fanout=needs_fanout or worker.needs_fanout, members_before=members_before,
        survivors=(members_before or room.members) if needs_fanout and not worker.owed else (),
    )  # fmt: skip
    if turn.without(Rule.EXCLUDED_BEFORE_COMMIT) and worker.rollout is not None:
        return after._replace(step=Step.COMMITTED)
    if turn.without(Rule.ROLLOUT_AFTER_NOTICES) and needs_fanout and turn.model.scenario.size is not Size.SMALL:
        return after._replace(rollout=Rollout(Phase.READ_KEY), excluded=decision.entry.joiners)
    return after


def may_commit(turn: Turn) -> bool:
    """Return True if a transaction commits: the fence that it writes names this lease."""
    if turn.without(Rule.FENCE_IS_WRITTEN):
        return turn.worker.fence_read == turn.state.database.room
    return turn.has_lease


def read_fence(turn: Turn) -> Iterator[Move]:
    """Open a transaction that only reads the fence; it commits unless the room changes before."""
    worker = turn.worker
    if not turn.without(Rule.FENCE_IS_WRITTEN):
        return
    if worker.fence_read is not None:
        yield turn.move("aborts its transaction", worker._replace(fence_read=None))
    elif turn.has_lease:
        yield turn.move("reads the fence", worker._replace(fence_read=turn.state.database.room))


def committed(turn: Turn) -> Iterator[Move]:
    """Learn that the transaction has committed; only a search without `EXCLUDED_BEFORE_COMMIT` takes this step."""
    excluded = tuple(account for entry in turn.worker.batch for account in entry.joiners)
    yield turn.move("learns of its commit", turn.worker._replace(step=Step.DELIVER, excluded=excluded))
