"""A room that is set aside: its events wait in the database, in order, while the cursor goes on.

The event that has waited longest is tried again between two control transactions. It is given up only if both are
committed and the database refuses the event between them.
"""

from collections.abc import Iterator

from tests.verification.model import checks
from tests.verification.model.apply import again, commit, excluded_joiners, may_commit, read_fence
from tests.verification.model.moves import Move, Turn
from tests.verification.model.rules import Rule
from tests.verification.model.state import Step
from tests.verification.model.writes import decide, given_up


def set_aside(turn: Turn) -> Iterator[Move]:
    """Let the cursor pass the event, which waits from now on; if that is refused, the event stays where it is."""
    if not may_commit(turn):
        yield from read_fence(turn)
        return
    for answered, is_taken in turn.transactions():
        if is_taken:
            yield _wait(answered, "sets the room aside")
        else:
            yield answered.move("is refused to set the room aside", again(turn.worker))


def _wait(turn: Turn, text: str) -> Move:
    """Let the cursor pass the next event, which waits from now on."""
    worker, database = again(turn.worker), turn.state.database
    number = database.position[0] + 1
    passed = database._replace(position=(number, 0))
    if not turn.without(Rule.EVENT_SET_ASIDE_IN_ONE):
        passed = passed._replace(waiting=(*database.waiting, number))
    worker = worker._replace(position=passed.position, waiting=(*worker.waiting, number))
    return turn.move(text, worker, database=passed)


def between_batches(turn: Turn) -> Iterator[Move]:
    """Let the next event of the room wait too, or write the control transaction and try the first one again."""
    worker, database = turn.worker, turn.state.database
    if not may_commit(turn):
        yield from read_fence(turn)
        return
    tries = worker._replace(step=Step.RETRY, batch_size=0, excluded=excluded_joiners(turn, 0))
    if worker.position[1] or turn.without(Rule.CONTROL_COMES_FIRST):
        yield turn.move("tries the event that has waited longest", tries)
        return
    if database.position[0] < len(turn.model.scenario.log) and not turn.without(Rule.LATER_EVENTS_WAIT):
        yield _wait(turn, "lets the next event wait too")
    for answered, is_taken in turn.transactions():
        text = "writes a control transaction" if is_taken else "is refused a control transaction"
        yield answered.move(text, tries if is_taken else worker)


def retry(turn: Turn) -> Iterator[Move]:
    """Write the effects of the event that has waited longest."""
    worker, state = turn.worker, turn.state
    if not may_commit(turn):
        yield from read_fence(turn)
        return
    if state.conflicts and worker.excluded:
        yield turn.move("meets a conflict", again(worker), conflicts=state.conflicts - 1)
    for answered, is_taken in turn.transactions(is_refused=turn.model.scenario.refuses(worker.waiting[:1])):
        if is_taken:
            decision = decide(turn.model, answered.state.database, worker, 0)
            yield commit(answered, f"applies event {worker.waiting[0]}, which has waited", decision)
        else:
            after = again(worker) if worker.position[1] else worker._replace(step=Step.GIVE_UP)
            yield answered.move(f"is refused event {worker.waiting[0]}", after)


def give_up(turn: Turn) -> Iterator[Move]:
    """Write the rejection of the event, which is the second control transaction."""
    worker = turn.worker
    if not may_commit(turn):
        yield from read_fence(turn)
        return
    for answered, is_taken in turn.transactions():
        if is_taken:
            checks.check_given_up(turn.model, worker.waiting[0])
            yield commit(
                answered, f"gives event {worker.waiting[0]} up", given_up(turn.model, answered.state.database, worker)
            )
        else:
            after = worker if turn.without(Rule.VERDICT_IS_DROPPED) else again(worker)
            yield answered.move("is refused the rejection", after)
