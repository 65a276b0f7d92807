"""What every step consists of: a worker that changes, and messages that the broker takes or loses."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tests.verification.model.checks import Model
from tests.verification.model.rules import Rule
from tests.verification.model.state import Outage, OutboxEntry, Phase, Received, State, Step, Worker

Message = Callable[[Received], Received]
"""How a message that the broker has taken changes what accounts and requesters have received."""


class Move(NamedTuple):
    """One step: the epoch of the worker that takes it, what it does, and the state after it."""

    epoch: int
    text: str
    state: State


class Turn(NamedTuple):
    """The worker that takes the next step, and the state before it."""

    model: Model
    state: State
    at: int

    @property
    def worker(self) -> Worker:
        """Return the worker."""
        return self.state.workers[self.at]

    @property
    def has_lease(self) -> bool:
        """Return True if the lease is that of the worker; the worker does not know."""
        return self.worker.epoch == self.state.database.epoch

    def without(self, rule: Rule) -> bool:
        """Return True if the search leaves out the rule."""
        return rule in self.model.left_out

    def move(self, text: str, worker: Worker, **changes: Any) -> Move:
        """Return the step after which the worker is this one; `changes` are those of the rest of the state."""
        workers = (*self.state.workers[: self.at], worker, *self.state.workers[self.at + 1 :])
        return Move(worker.epoch or self.worker.epoch, text, self.state._replace(workers=workers, **changes))

    def transactions(self, *, is_refused: bool = False) -> Iterator[tuple["Turn", bool]]:
        """Yield the turn as the database lets it go on, and whether it takes a transaction or refuses it."""
        state = self.state
        if state.outage is Outage.BEGUN:
            yield self._in(outage=Outage.GOES_ON), False
            return
        if state.outage is Outage.GOES_ON:
            yield self, False
        elif state.outages:
            yield self._in(outages=state.outages - 1, outage=Outage.BEGUN), False
        yield self._in(outage=Outage.NONE), not is_refused

    def _in(self, **changes: Any) -> "Turn":
        return self._replace(state=self.state._replace(**changes))

    def barrier(self, text: str, messages: Sequence[Message], confirmed: Worker, unconfirmed: Worker) -> Iterator[Move]:
        """Publish messages and confirm them: the broker takes all of them, or the connection breaks on the way."""
        state, received = self.state, self.state.received
        for count, message in enumerate(messages):
            if state.disconnects and self.has_lease:
                lost = f"{text}; the connection breaks after {count} of {len(messages)} messages"
                yield self.move(lost, unconfirmed, received=received, disconnects=state.disconnects - 1)
            received = message(received)
        yield self.move(text, confirmed, received=received)


def after_delivery(model: Model, worker: Worker) -> Worker:
    """Return the worker at its next step: announce if the result of any pending entry may go out."""
    return worker._replace(step=Step.ANNOUNCE if announceable(model, worker) else Step.BATCH)


def announceable(model: Model, worker: Worker) -> tuple[OutboxEntry, ...]:
    """Return the pending entries whose results may go out."""
    if worker.owed:
        return ()
    reached = worker.settled
    if Rule.RESULTS_NOT_AT_STAGE in model.left_out and worker.staged is not None:
        reached = worker.staged[0]
    at_once = Rule.RESULTS_AFTER_SETTLE in model.left_out
    any_order = Rule.ENTRIES_DELETED_IN_ORDER in model.left_out
    return tuple(
        entry for entry in worker.pending if at_once or entry.high <= reached or (any_order and not entry.results)
    )


def is_harmless(model: Model, worker: Worker) -> bool:
    """Return True if nothing that a worker without the lease can still do has an effect outside of it."""
    unfenced = {Rule.FENCE_IS_WRITTEN, Rule.PAGES_UNDER_LEASE, Rule.DOUBT_IS_A_CRASH, Rule.DELETES_FENCED}
    if model.left_out & unfenced or worker.step not in _FENCED_STEPS:
        return False
    if worker.letters or worker.owed_read is not None:
        return False
    rollout = worker.rollout
    return rollout is None or (rollout.phase != Phase.SEND_PAGE and rollout.page is None)


_FENCED_STEPS = frozenset(
    {
        Step.READ_SURVIVORS, Step.SETTLE, Step.BATCH, Step.APPLY, Step.COMMITTED, Step.UNCONFIRMED, Step.SET_ASIDE,
        Step.RETRY, Step.GIVE_UP,
    }
)  # fmt: skip
"""Steps that a worker without the lease cannot take, or that end in a crash."""
