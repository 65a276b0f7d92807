"""The sender of dead letters, beside the loop: it publishes the first letter that is owed, and then deletes it."""

from collections.abc import Iterator

from tests.verification.model.moves import Move, Turn
from tests.verification.model.rules import Rule
from tests.verification.model.state import Received, State, Worker


def advance(turn: Turn) -> Iterator[Move]:
    """Take the next step with the first letter; a worker whose lease is lost may still take it."""
    worker, state = turn.worker, turn.state
    if turn.without(Rule.LETTER_IN_OUTBOX):
        if worker.letters:
            sent = _stored(state.received, worker.letters[0])
            yield turn.move("sends a letter", worker._replace(letters=worker.letters[1:]), received=sent)
        return
    if worker.letters:  # those that are published and not deleted, or the other way round
        yield _second_step(turn, worker.letters[0])
    elif state.database.letters and turn.has_lease:
        yield _first_step(turn, state.database.letters[0])


def _first_step(turn: Turn, event: int) -> Move:
    worker = turn.worker._replace(letters=(event,))
    if turn.without(Rule.LETTER_TAKEN_BEFORE_DELETED):
        return _delete(turn._replace(state=_with(turn, worker)), event)
    received = _stored(turn.state.received, event)
    return turn.move(f"sends the letter of event {event}", worker, received=received)


def _second_step(turn: Turn, event: int) -> Move:
    worker = turn.worker._replace(letters=())
    if turn.without(Rule.LETTER_TAKEN_BEFORE_DELETED):
        received = _stored(turn.state.received, event)
        return turn.move(f"sends the letter of event {event}", worker, received=received)
    return _delete(turn._replace(state=_with(turn, worker)), event)


def _delete(turn: Turn, event: int) -> Move:
    database = turn.state.database
    left = tuple(letter for letter in database.letters if letter != event)
    return turn.move(f"deletes the letter of event {event}", turn.worker, database=database._replace(letters=left))


def _with(turn: Turn, worker: Worker) -> State:
    return turn.move("", worker).state


def _stored(received: Received, event: int) -> Received:
    return received._replace(letters=received.letters | 1 << event)
