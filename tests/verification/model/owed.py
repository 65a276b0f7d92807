"""Joiners to whom the current key was denied get it beside the loop, and the results of the room wait for them."""

from collections.abc import Iterator

from tests.verification.model import checks
from tests.verification.model.moves import Move, Turn, after_delivery, announceable
from tests.verification.model.rules import Rule
from tests.verification.model.state import NO_MEMBER, Phase, Rollout, Step, Worker


def denied(turn: Turn, delivered: Worker, joiners: tuple[int, ...]) -> Move:
    """Deliver the notices of a batch, and be denied the key for every joiner."""
    received = turn.state.received
    for entry in turn.worker.batch:
        for notice in entry.notices:
            received = checks.receive_notice(turn.state.database, received, turn.worker, notice)
    owed = () if turn.without(Rule.DENIED_JOINERS_WAIT) else tuple(dict.fromkeys((*delivered.owed, *joiners)))
    after = after_delivery(turn.model, delivered._replace(owed=owed))
    return turn.move("is denied the key for every joiner", after, received=received, denials=turn.state.denials - 1)


def advance(turn: Turn) -> Iterator[Move]:
    """Read the key and then the joiners who are still members, and send it to them."""
    worker, state = turn.worker, turn.state
    if worker.owed_read is None:
        if worker.owed and turn.has_lease:
            members = state.database.room.members
            found = tuple((account, members[account]) for account in worker.owed if members[account] != NO_MEMBER)
            key = state.database.room.current
            read = worker._replace(owed=(), owed_read=None) if key is None else worker._replace(owed_read=(key, found))
            yield turn.move("reads the joiners who are owed the key", read)
        return
    key, found = worker.owed_read
    received = state.received
    for account, membership in found:
        if account not in worker.excluded:
            received = checks.receive_key(turn.model, state.database, received, account, key, membership)
    left = tuple(one for one in worker.owed if one not in [account for account, _ in found])
    gone = tuple(one for one in left if state.database.room.members[one] != NO_MEMBER)
    yield turn.move("sends the owed key", worker._replace(owed=gone, owed_read=None), received=received)
    if state.denials and found and turn.has_lease:
        yield turn.move("is denied the owed key", worker._replace(owed_read=None), denials=state.denials - 1)


def served(turn: Turn) -> Iterator[Move]:
    """Between two batches, once no joiner is owed a key: begin the rollout that waited, or announce the results."""
    worker = turn.worker
    if worker.owed or not turn.model.scenario.denials or worker.position[1]:
        return
    if worker.needs_fanout:
        after = worker._replace(needs_fanout=False, survivors=(), rollout=Rollout(Phase.READ_KEY))
        yield turn.move("begins the rollout that has waited", after_delivery(turn.model, after))
    elif announceable(turn.model, worker):
        yield turn.move("finds that the joiners have their key", worker._replace(step=Step.ANNOUNCE))
