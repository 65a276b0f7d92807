"""The drainer: a pass over a big room beside the loop; it writes nothing."""

from collections.abc import Iterator

from tests.verification.model import checks
from tests.verification.model.moves import Move, Turn
from tests.verification.model.rules import Rule
from tests.verification.model.state import NO_PAGE, NOBODY, Drainer, Phase


def drain(turn: Turn) -> Iterator[Move]:
    """Take the drainer's next step."""
    drainer = turn.worker.drainer
    if drainer is None:
        return
    if drainer.phase == Phase.KEY:
        yield _key(turn, drainer)
    elif drainer.phase == Phase.READ:
        yield from _read(turn, drainer)
    elif drainer.phase == Phase.SEND:
        yield from _send(turn, drainer)
        yield from _read_ahead(turn, drainer)


def _turned(turn: Turn, what: str, drainer: Drainer) -> Move:
    return turn.move(f"drainer {what}", turn.worker._replace(drainer=drainer))


def _key(turn: Turn, drainer: Drainer) -> Move:
    """Read the key; without one the pass is over."""
    key = turn.state.database.room.staged
    if key is None:
        return _turned(turn, "finds no key", Drainer(Phase.DONE))
    return _turned(
        turn,
        f"reads the key of version {key[0]}",
        drainer._replace(key=key, phase=Phase.SEND if drainer.page else Phase.READ),
    )


def _read(turn: Turn, drainer: Drainer) -> Iterator[Move]:
    """Read the next page, then look whether the lease is still the worker's."""
    for page in _page(turn, drainer.after):
        if page == NO_PAGE:
            yield _turned(turn, "is done", Drainer(Phase.DONE))
            return
        then = Phase.KEY if drainer.key is None else Phase.SEND
        yield _turned(turn, f"reads {checks.LETTERS[page[0]]}", drainer._replace(phase=then, page=page))


def _read_ahead(turn: Turn, drainer: Drainer) -> Iterator[Move]:
    """Read the page after the one that is being sent."""
    if drainer.page is not None and drainer.ahead is None:
        for page in _page(turn, drainer.page[0] + 1):
            yield _turned(turn, "reads ahead", drainer._replace(ahead=page))


def _page(turn: Turn, after: int) -> Iterator[tuple[int, int]]:
    """Yield the page that is found from an account on, if the lease is the worker's."""
    if turn.holds_lease or turn.without(Rule.PAGES_UNDER_LEASE):
        members = turn.worker.before or turn.state.database.room.members
        found = ((at, members[at]) for at in range(after, len(members)) if members[at] != NOBODY)
        yield next(found, NO_PAGE)


def _send(turn: Turn, drainer: Drainer) -> Iterator[Move]:
    """Send and confirm a page, without those whose notice is not out."""
    state, page, key = turn.state, drainer.page, drainer.key
    if page is None or key is None:
        return
    account, membership = page
    name = checks.LETTERS[account]
    further = Drainer(Phase.READ, account + 1, key)
    if drainer.ahead is not None:
        further = Drainer(Phase.SEND, account, key, drainer.ahead)
    if drainer.ahead == NO_PAGE:
        further = Drainer(Phase.DONE)
    if account in turn.worker.left_out:
        yield _turned(turn, f"leaves out {name}", further)
        return
    if state.breaks and turn.holds_lease:
        again = Drainer(Phase.READ, account, key)
        after = further if turn.without(Rule.PAGES_CONFIRMED) else again
        move = _turned(turn, f"sends to {name}; the connection breaks", after)
        yield move._replace(state=move.state._replace(breaks=state.breaks - 1))
    seen = checks.sent(turn.model, state.database, state.seen, account, key, membership)
    move = _turned(turn, f"sends version {key[0]} to {name}", further)
    yield move._replace(state=move.state._replace(seen=seen))
