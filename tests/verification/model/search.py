"""The search: every reachable state, breadth first, so that a counterexample is as short as possible."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from tests.verification.model import apply, letters, loop, owed, recovery, rollout, set_aside
from tests.verification.model.checks import Model, Violation, check_end
from tests.verification.model.expected import expectations
from tests.verification.model.moves import Move, Turn
from tests.verification.model.rules import Rule
from tests.verification.model.scenario import Scenario
from tests.verification.model.state import State, Step, Worker, start

STEPS: Final[dict[Step, Callable[[Turn], Iterator[Move]]]] = {
    Step.READ_OUTBOX: recovery.read_outbox,
    Step.READ_KEYS: recovery.read_keys,
    Step.READ_MEMBERS: recovery.read_members,
    Step.BATCH: loop.batch,
    Step.APPLY: apply.apply,
    Step.COMMITTED: apply.committed,
    Step.SET_ASIDE: set_aside.set_aside,
    Step.RETRY: set_aside.retry,
    Step.GIVE_UP: set_aside.give_up,
    Step.DELIVER: loop.deliver,
    Step.READ_SURVIVORS: loop.read_survivors,
    Step.FAN_OUT: loop.fan_out,
    Step.SETTLE: loop.settle,
    Step.ANNOUNCE: loop.announce,
    Step.UNCONFIRMED: loop.crash,
}

Trail = tuple["Trail | None", int, str]
"""The steps that led to a state, the last one first."""


class Found(NamedTuple):
    """What a search found: the number of states, the depth, and a violation with the steps to it."""

    states: int
    depth: int
    violation: Violation | None = None
    steps: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([str(self.violation or "no violation"), *(f"  {step}" for step in self.steps)])


def model_of(scenario: Scenario, left_out: Iterable[Rule] = ()) -> Model:
    """Return the model that plays a scenario without some of the rules."""
    return Model(scenario, expectations(scenario), frozenset(left_out))


def search(scenario: Scenario, left_out: Iterable[Rule] = (), max_depth: int | None = None) -> Found:
    """Search every state of a scenario, or those within a number of steps, until an invariant is violated."""
    model = model_of(scenario, left_out)
    first = start(scenario)
    known, depth = {hash(first)}, 0
    level: list[tuple[State, Trail | None]] = [(first, None)]
    while level and depth != max_depth:
        next_level: list[tuple[State, Trail | None]] = []
        for state, trail in level:
            try:
                for epoch, text, reached in moves(model, state):
                    mark = hash(reached)
                    if mark not in known:
                        known.add(mark)
                        next_level.append((reached, (trail, epoch, text)))
            except Violation as violation:
                return Found(len(known), depth, violation, _steps(trail))
        level, depth = next_level, depth + 1
    return Found(len(known), depth)


def moves(model: Model, state: State) -> Iterator[Move]:
    """Yield every step that is possible next; if the owner of the lease has none, check the end."""
    at_rest = state.database.epoch > 0
    for index, worker in enumerate(state.workers):
        if worker.step is Step.NO_LEASE:
            at_rest = at_rest and index > 0
            continue
        turn = Turn(model, state, index)
        for move in _moves_of(turn, worker):
            at_rest = at_rest and not turn.has_lease
            yield move
    if at_rest:
        check_end(model, state)
    yield from recovery.takeovers(model, state)


def _moves_of(turn: Turn, worker: Worker) -> Iterator[Move]:
    try:
        yield from STEPS[worker.step](turn)
        yield from rollout.advance(turn)
        yield from owed.advance(turn)
        yield from letters.advance(turn)
    except Violation as violation:
        raise Violation(violation.invariant, f"{violation.text}, by epoch {worker.epoch}") from None


def _steps(trail: Trail | None) -> tuple[str, ...]:
    steps: list[str] = []
    while trail is not None:
        trail, epoch, text = trail
        steps.append(f"epoch {epoch} {text}")
    return tuple(reversed(steps))
