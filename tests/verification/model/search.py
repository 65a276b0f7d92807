"""The search: every state that can be reached, breadth first, so that a counterexample is a shortest one."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from tests.verification.model import loop, recovery, rollout
from tests.verification.model.checks import Model, Violation, ended
from tests.verification.model.history import history
from tests.verification.model.moves import Move, Turn
from tests.verification.model.rules import Rule
from tests.verification.model.state import Scenario, State, Step, Worker, start

STEPS: Final[dict[Step, Callable[[Turn], Iterator[Move]]]] = {
    Step.ENTRIES: recovery.entries,
    Step.KEYS: recovery.keys,
    Step.MEMBERS: recovery.members,
    Step.DELIVER: loop.deliver,
    Step.SURVIVORS: loop.survivors,
    Step.SEND: loop.send,
    Step.SETTLE: loop.settle,
    Step.ANNOUNCE: loop.announce,
    Step.IDLE: loop.idle,
    Step.APPLY: loop.apply,
    Step.RETURN: loop.returned,
    Step.BROKEN: loop.crash,
}

Trail = tuple["Trail | None", int, str]
"""The steps that led to a state, the last one first."""


class Found(NamedTuple):
    """What a search came to: how many states, how deep, and what broke, with the steps to it."""

    states: int
    depth: int
    violation: str | None = None
    steps: tuple[str, ...] = ()


def search(scenario: Scenario, broken: Iterable[Rule] = (), most: int | None = None) -> Found:
    """Search all that can happen in a scenario, or that can happen in so many steps."""
    model = Model(scenario, history(scenario), frozenset(broken))
    first = start(scenario)
    known, depth = {hash(first)}, 0
    level: list[tuple[State, Trail | None]] = [(first, None)]
    while level and depth != most:
        following: list[tuple[State, Trail | None]] = []
        for state, trail in level:
            try:
                for epoch, what, reached in _moves(model, state):
                    mark = hash(reached)
                    if mark not in known:
                        known.add(mark)
                        following.append((reached, (trail, epoch, what)))
            except Violation as violation:
                return Found(len(known), depth, str(violation), _told(trail))
        level, depth = following, depth + 1
    return Found(len(known), depth)


def _moves(model: Model, state: State) -> Iterator[Move]:
    """Yield what can happen next; where the owner has nothing left to do, everything must be in order."""
    waiting = state.database.epoch > 0
    for at, worker in enumerate(state.workers):
        if worker.step == Step.OUT:
            waiting = waiting and at > 0
            continue
        turn = Turn(model, state, at)
        for move in _of_worker(turn, worker):
            waiting = waiting and not turn.holds_lease
            yield move
    if waiting:
        ended(model, state)
    yield from recovery.takes(model, state)


def _of_worker(turn: Turn, worker: Worker) -> Iterator[Move]:
    try:
        yield from STEPS[worker.step](turn)
        yield from rollout.drain(turn)
    except Violation as violation:
        raise Violation(f"{violation}, by epoch {worker.epoch}") from None


def _told(trail: Trail | None) -> tuple[str, ...]:
    steps: list[str] = []
    while trail is not None:
        trail, epoch, what = trail
        steps.append(f"epoch {epoch} {what}")
    return tuple(reversed(steps))
