"""A rollout: a pass over a large room beside the loop. It writes nothing."""

from collections.abc import Iterator

from tests.verification.model import checks
from tests.verification.model.moves import Move, Turn
from tests.verification.model.rules import Rule
from tests.verification.model.scenario import names
from tests.verification.model.state import NO_MEMBER, NO_PAGE, Phase, Rollout


def advance(turn: Turn) -> Iterator[Move]:
    """Take the next step of the pass."""
    rollout = turn.worker.rollout
    if rollout is None:
        return
    if rollout.phase is Phase.READ_KEY:
        yield _read_key(turn, rollout)
        yield from _denied_pass(turn)
    elif rollout.phase is Phase.READ_PAGE:
        yield from _read_page(turn, rollout)
    elif rollout.phase is Phase.SEND_PAGE:
        yield from _send_page(turn, rollout)
        yield from _read_ahead(turn, rollout)


def _move(turn: Turn, text: str, rollout: Rollout) -> Move:
    return turn.move(f"rollout {text}", turn.worker._replace(rollout=rollout))


def _read_key(turn: Turn, rollout: Rollout) -> Move:
    """Read the staged key; if there is none the pass is over."""
    key = turn.state.database.room.staged
    if key is None:
        return _move(turn, "finds no key", Rollout(Phase.DONE))
    phase = Phase.SEND_PAGE if rollout.page else Phase.READ_PAGE
    return _move(turn, f"reads the key of version {key[0]}", rollout._replace(key=key, phase=phase))


def _denied_pass(turn: Turn) -> Iterator[Move]:
    """Make a pass whose key the broker denies to every member: it has to begin again."""
    if turn.state.denials and turn.has_lease:
        after = Rollout(Phase.DONE if turn.without(Rule.DENIED_IS_UNCONFIRMED) else Phase.READ_KEY)
        move = _move(turn, "is denied the key for every member", after)
        yield move._replace(state=move.state._replace(denials=move.state.denials - 1))


def _read_page(turn: Turn, rollout: Rollout) -> Iterator[Move]:
    """Read the next page."""
    for page in _page(turn, rollout.after):
        if page == NO_PAGE:
            yield _move(turn, "is done", Rollout(Phase.DONE))
            return
        phase = Phase.READ_KEY if rollout.key is None else Phase.SEND_PAGE
        yield _move(turn, f"reads {names(page[:1])}", rollout._replace(phase=phase, page=page))


def _read_ahead(turn: Turn, rollout: Rollout) -> Iterator[Move]:
    """Read the page after the one that is being sent."""
    if rollout.page is not None and rollout.read_ahead is None:
        for page in _page(turn, rollout.page[0] + 1):
            yield _move(turn, "reads ahead", rollout._replace(read_ahead=page))


def _page(turn: Turn, after: int) -> Iterator[tuple[int, int]]:
    """Yield the page that begins at an account, if the query finds the lease to be that of the worker."""
    if turn.has_lease or turn.without(Rule.PAGES_UNDER_LEASE):
        members = turn.worker.members_before or turn.state.database.room.members
        found = ((at, members[at]) for at in range(after, len(members)) if members[at] != NO_MEMBER)
        yield next(found, NO_PAGE)


def _send_page(turn: Turn, rollout: Rollout) -> Iterator[Move]:
    """Send a page without the excluded accounts, and confirm it."""
    state, page, key = turn.state, rollout.page, rollout.key
    if page is None or key is None:
        return
    account, membership = page
    name, sent = names(page[:1]), _after_page(rollout, account)
    if account in turn.worker.excluded:
        yield _move(turn, f"excludes {name}", sent)
        return
    if state.disconnects and turn.has_lease:
        after = sent if turn.without(Rule.PAGES_CONFIRMED) else Rollout(Phase.READ_PAGE, account, key)
        move = _move(turn, f"sends to {name}; the connection breaks", after)
        yield move._replace(state=move.state._replace(disconnects=state.disconnects - 1))
    received = checks.receive_key(turn.model, state.database, state.received, account, key, membership)
    move = _move(turn, f"sends version {key[0]} to {name}", sent)
    yield move._replace(state=move.state._replace(received=received))


def _after_page(rollout: Rollout, account: int) -> Rollout:
    """Return the rollout with its page confirmed."""
    if rollout.read_ahead is None:
        return Rollout(Phase.READ_PAGE, account + 1, rollout.key)
    if rollout.read_ahead == NO_PAGE:
        return Rollout(Phase.DONE)
    return Rollout(Phase.SEND_PAGE, account, rollout.key, rollout.read_ahead)
