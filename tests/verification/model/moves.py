"""What every step is made of: a worker that changes, and messages that the broker takes or loses."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tests.verification.model.checks import Model
from tests.verification.model.rules import Rule
from tests.verification.model.state import Entry, Phase, Seen, State, Step, Worker

Message = Callable[[Seen], Seen]
"""What a message that was taken changes in what accounts have seen."""


class Move(NamedTuple):
    """One step: whose (by epoch), what, and what comes of it."""

    epoch: int
    what: str
    state: State


class Turn(NamedTuple):
    """Whose turn it is, in which state."""

    model: Model
    state: State
    at: int

    @property
    def worker(self) -> Worker:
        """Return the worker."""
        return self.state.workers[self.at]

    @property
    def holds_lease(self) -> bool:
        """Tell whether the lease is the worker's; it does not know."""
        return self.worker.epoch == self.state.database.epoch

    def without(self, rule: Rule) -> bool:
        """Tell whether a rule is broken."""
        return rule in self.model.broken

    def move(self, what: str, worker: Worker, **changes: Any) -> Move:
        """Return the step after which the worker's memory is this."""
        workers = (*self.state.workers[: self.at], worker, *self.state.workers[self.at + 1 :])
        return Move(worker.epoch or self.worker.epoch, what, self.state._replace(workers=workers, **changes))

    def publish(self, what: str, messages: Sequence[Message], then: Worker, broken: Worker) -> Iterator[Move]:
        """Publish and confirm: all is taken, or the connection breaks and the rest is lost."""
        state, seen = self.state, self.state.seen
        for count, message in enumerate(messages):
            if state.breaks and self.holds_lease:
                lost = f"{what}; the connection breaks after {count} of {len(messages)} messages"
                yield self.move(lost, broken, seen=seen, breaks=state.breaks - 1)
            seen = message(seen)
        yield self.move(what, then, seen=seen)


def rest(model: Model, worker: Worker) -> Worker:
    """Let a loop go on to announce what can be, or to wait for events."""
    return worker._replace(step=Step.ANNOUNCE if payable(model, worker) else Step.IDLE)


def payable(model: Model, worker: Worker) -> tuple[Entry, ...]:
    """Return the entries whose results may go out."""
    reached = worker.settled
    if Rule.SETTLED_NOT_STAGED in model.broken and worker.staged is not None:
        reached = worker.staged[0]
    free = Rule.RESULTS_WAIT in model.broken
    slices = Rule.SLICES_IN_ORDER in model.broken
    return tuple(entry for entry in worker.held if free or entry.high <= reached or (slices and not entry.results))


def fenced_off(model: Model, worker: Worker) -> bool:
    """Tell whether a worker without the lease can do nothing any more that anybody notices."""
    if model.broken & {Rule.FENCE_WRITTEN, Rule.PAGES_UNDER_LEASE, Rule.DOUBT_IS_A_CRASH, Rule.STRIKES_FENCED}:
        return False
    if worker.step not in (Step.SURVIVORS, Step.SETTLE, Step.IDLE, Step.APPLY, Step.RETURN, Step.BROKEN):
        return False
    drainer = worker.drainer
    return drainer is None or (drainer.phase != Phase.SEND and drainer.page is None)
