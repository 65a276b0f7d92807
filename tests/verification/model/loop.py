"""The loop's steps, one function each, as the worker takes them."""

from collections.abc import Iterator
from functools import partial

from tests.verification.model import checks
from tests.verification.model.moves import Message, Move, Turn, payable, rest
from tests.verification.model.rules import Rule
from tests.verification.model.state import NOBODY, Drainer, Key, Notice, Phase, Seen, Step, Worker
from tests.verification.model.writes import Batch, decide, promote, struck


def deliver(turn: Turn) -> Iterator[Move]:
    """Send notices, then to joiners the current key and the one that is on its way."""
    worker = turn.worker
    messages: list[Message] = [
        partial(_told, turn, notice=notice) for entry in worker.work for notice in entry.notices
    ]
    on_its_way = None if worker.fresh or turn.without(Rule.STAGED_TO_JOINERS) else worker.staged
    keys = [key for key in (worker.current, on_its_way) if key is not None]
    messages += [_key(turn, account, key) for entry in worker.work for account in entry.joiners for key in keys]
    done = worker._replace(work=(), held=worker.held + worker.work, left_out=())
    broken = worker._replace(
        step=Step.BROKEN, left_out=() if turn.without(Rule.LEFT_OUT_UNTIL_CONFIRMED) else worker.left_out
    )
    for then in _pass(turn, done):
        yield from turn.publish("delivers", messages, then, broken)


def _told(turn: Turn, seen: Seen, notice: Notice) -> Seen:
    return checks.told(turn.state.database, seen, turn.worker, notice)


def _key(turn: Turn, account: int, key: Key, membership: int = 0) -> Message:
    def message(seen: Seen) -> Seen:
        return checks.sent(turn.model, turn.state.database, seen, account, key, membership)

    return message


def _pass(turn: Turn, worker: Worker) -> Iterator[Worker]:
    """Begin the pass of a freshly staged key: in the loop, or by a drainer."""
    if not worker.fresh:
        yield rest(turn.model, worker)
        return
    known = worker.known
    worker = worker._replace(fresh=False, known=())
    if turn.model.scenario.size != "big":
        yield worker._replace(step=Step.SURVIVORS)
        if known:
            yield worker._replace(step=Step.SEND, page=known)
    if turn.model.scenario.size != "small":
        drainer = worker.drainer or Drainer(Phase.READ if turn.without(Rule.KEY_BEFORE_PAGES) else Phase.KEY)
        yield rest(turn.model, worker._replace(drainer=drainer))


def survivors(turn: Turn) -> Iterator[Move]:
    """Read a small room's members, having written or read its key."""
    worker = turn.worker
    if turn.holds_lease or turn.without(Rule.PAGES_UNDER_LEASE):
        page = worker.before or turn.state.database.room.members
        yield turn.move("reads the survivors", worker._replace(step=Step.SEND, page=page))


def send(turn: Turn) -> Iterator[Move]:
    """Send a small room's staged key to its members."""
    worker = turn.worker
    key = worker.staged
    if key is None:
        return
    messages = [_key(turn, at, key, member) for at, member in enumerate(worker.page) if member != NOBODY]
    then = worker._replace(step=Step.SETTLE, page=())
    broken = then if turn.without(Rule.CONFIRMED_FIRST) else worker._replace(step=Step.BROKEN)
    yield from turn.publish(f"sends version {key[0]} to the survivors", messages, then, broken)


def settle(turn: Turn) -> Iterator[Move]:
    """Make the staged key current, and stage the next one if versions have risen."""
    worker, state = turn.worker, turn.state
    if not may_commit(turn):
        yield from begin(turn)
        return
    room = promote(state.database.room, worker.epoch)
    if room is not state.database.room:
        checks.settled(state.database.room, room, state.seen)
    seen = state.seen if room.staged is None else checks.made(state.seen, room.staged)
    settled = worker._replace(
        current=room.current, staged=room.staged, settled=room.settled, fresh=room.staged is not None,
        drainer=None, begun=None, before=None, paid=(),
    )  # fmt: skip
    for then in _pass(turn, settled):
        database = state.database._replace(room=room, outbox=struck(state.database.outbox, worker))
        yield turn.move(f"settles version {room.settled}", then, database=database, seen=seen)


def announce(turn: Turn) -> Iterator[Move]:
    """Send the results of what has settled."""
    worker = turn.worker
    out = payable(turn.model, worker)
    messages: list[Message] = [partial(_announced, turn, event=event) for entry in out for event in entry.results]
    held = tuple(entry for entry in worker.held if entry not in out)
    then = worker._replace(step=Step.IDLE, held=held, paid=worker.paid + out)
    yield from turn.publish("announces", messages, then, worker._replace(step=Step.BROKEN))


def _announced(turn: Turn, seen: Seen, event: int) -> Seen:
    return checks.announced(turn.model, turn.state.database, seen, event)


def idle(turn: Turn) -> Iterator[Move]:
    """Strike what is paid; settle a room whose pass is done; or take the next events."""
    worker, database = turn.worker, turn.state.database
    if worker.paid and (turn.holds_lease or turn.without(Rule.STRIKES_FENCED)):
        after = database._replace(outbox=struck(database.outbox, worker))
        yield turn.move("strikes", worker._replace(paid=()), database=after)
    if not turn.holds_lease:
        return
    if worker.place != database.place:
        if worker.place[0] < len(turn.model.scenario.log):
            yield turn.move("is not where it was", Worker())
        return
    whole = worker.place[1] == 0 or turn.without(Rule.WHOLE_EVENTS)
    if worker.drainer is not None and worker.drainer.phase == Phase.DONE and whole:
        yield from settle(turn)
        return
    for taken in batches(turn):
        left_out = _newcomers(turn, taken)
        takes = turn.move(f"takes {taken}", worker._replace(step=Step.APPLY, taken=taken, left_out=left_out))
        if left_out or turn.without(Rule.FENCE_WRITTEN):
            yield takes
        else:
            yield from apply(turn._replace(state=takes.state))


def _newcomers(turn: Turn, taken: int) -> tuple[int, ...]:
    """Return whom a batch makes a member of the room that is drained: its drainer leaves them to the loop."""
    worker, database = turn.worker, turn.state.database
    if worker.drainer is None or turn.without(Rule.NEWCOMERS_LEFT_OUT) or turn.without(Rule.LEFT_OUT_BEFORE):
        return ()
    joiners = decide(turn.model, database, worker, taken).entry.joiners
    again = turn.without(Rule.NEWCOMERS_ONLY)
    return tuple(one for one in joiners if again or database.room.members[one] == NOBODY)


def batches(turn: Turn) -> Iterator[int]:
    """Yield how many events a batch may take; an event in slices is a batch of its own."""
    log, (applied, _) = turn.model.scenario.log, turn.state.database.place
    for count in range(1, min(turn.model.scenario.most, len(log) - applied) + 1):
        if count > 1 and (log[applied].sliced or log[applied + count - 1].sliced):
            return
        yield count


def apply(turn: Turn) -> Iterator[Move]:
    """Write a batch in one transaction; a conflict writes nothing."""
    worker, state = turn.worker, turn.state
    if worker.place != state.database.place:
        yield turn.move("is not where it was", Worker())
        return
    if not may_commit(turn):
        yield from begin(turn)
        return
    again = worker._replace(step=Step.IDLE, taken=0, begun=None)
    if state.conflicts and worker.left_out:
        yield turn.move("meets a conflict", again, conflicts=state.conflicts - 1)
    batch = decide(turn.model, state.database, worker, worker.taken)
    then = _applied(turn, batch)
    if turn.without(Rule.DOUBT_IS_A_CRASH):
        yield turn.move(f"believes that {worker.taken} are applied", then)
    checks.applied(turn.model, batch.database)
    seen = state.seen if batch.staged is None else checks.made(state.seen, batch.staged)
    yield turn.move(f"applies up to {batch.database.place}", then, database=batch.database, seen=seen)


def _applied(turn: Turn, batch: Batch) -> Worker:
    worker, room = turn.worker, batch.database.room
    fresh = batch.staged is not None and worker.drainer is None
    before = (
        turn.state.database.room.members if turn.without(Rule.SURVIVORS_AFTER_KEY) and fresh else worker.before
    )
    after = worker._replace(
        step=Step.DELIVER, place=batch.database.place, work=(batch.entry,), taken=0, begun=None,
        paid=worker.paid if batch.staged is not None else (), current=room.current, staged=room.staged,
        fresh=fresh, before=before, known=(before or room.members) if fresh else (),
    )  # fmt: skip
    if turn.without(Rule.LEFT_OUT_BEFORE) and worker.drainer is not None:
        return after._replace(step=Step.RETURN)
    if turn.without(Rule.DRAINED_AFTER_NOTICES) and fresh and turn.model.scenario.size != "small":
        return after._replace(drainer=Drainer(Phase.KEY), left_out=batch.entry.joiners)
    return after


def may_commit(turn: Turn) -> bool:
    """Tell whether a transaction commits: the fence that it wrote is ours."""
    if turn.without(Rule.FENCE_WRITTEN):
        return turn.worker.begun == turn.state.database.room
    return turn.holds_lease


def begin(turn: Turn) -> Iterator[Move]:
    """Open a transaction that only reads the fence; the room must not change until it commits."""
    worker = turn.worker
    if not turn.without(Rule.FENCE_WRITTEN):
        return
    if worker.begun is not None:
        yield turn.move("aborts", worker._replace(begun=None))
    elif turn.holds_lease:
        yield turn.move("reads the fence", worker._replace(begun=turn.state.database.room))


def returned(turn: Turn) -> Iterator[Move]:
    """Learn that the transaction has been committed."""
    left_out = tuple(account for entry in turn.worker.work for account in entry.joiners)
    yield turn.move("learns of its commit", turn.worker._replace(step=Step.DELIVER, left_out=left_out))


def crash(turn: Turn) -> Iterator[Move]:
    """Treat an unconfirmed barrier as a crash."""
    yield turn.move("crashes", Worker())
