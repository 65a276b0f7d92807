"""The invariants, each at the moment at which it can be broken."""

from typing import NamedTuple

from tests.verification.model.history import History
from tests.verification.model.rules import Rule
from tests.verification.model.state import NOBODY, Database, Key, Notice, Room, Scenario, Seen, State, Worker

LETTERS = "abcdefgh"


class Violation(Exception):
    """An invariant does not hold."""


class Model(NamedTuple):
    """What is searched: a scenario, what must come of it, and the rules that are broken."""

    scenario: Scenario
    history: History
    broken: frozenset[Rule]


def told(database: Database, seen: Seen, worker: Worker, notice: Notice) -> Seen:
    """Let an account see a notice; a worker without the lease may repeat old ones, and nothing can stop it."""
    if notice.joined and notice.event > seen.told[notice.account]:
        seen = seen._replace(told=_put(seen.told, notice.account, notice.event))
    if worker.epoch == database.epoch or notice.event > seen.last[notice.account]:
        seen = seen._replace(last=_put(seen.last, notice.account, notice.event))
    return seen


def sent(model: Model, database: Database, seen: Seen, account: int, key: Key, membership: int) -> Seen:
    """Let an account be sent a key because of a membership (0: one that it was told of just before)."""
    version = key[0]
    if version >= model.history.at[database.place].barred[account]:
        raise Violation(f"exclusion: {LETTERS[account]} is sent version {version}")
    if membership > seen.told[account]:
        raise Violation(f"notice before key: {LETTERS[account]} is sent version {version} first")
    return made(seen._replace(sent=_put(seen.sent, account, seen.sent[account] | 1 << version)), key)


def made(seen: Seen, key: Key) -> Seen:
    """Hold a key against the bytes that its version had before."""
    version, maker = key
    if version < len(seen.made):
        if seen.made[version] not in (NOBODY, maker):
            raise Violation(f"one key per version: version {version} has other bytes")
        return seen if seen.made[version] == maker else seen._replace(made=_put(seen.made, version, maker))
    unused = (NOBODY,) * (version - len(seen.made))
    return seen._replace(made=(*seen.made, *unused, maker))


def applied(model: Model, database: Database) -> None:
    """Hold memberships and versions against the log."""
    truth = model.history.at[database.place]
    if [one != NOBODY for one in database.room.members] != [one != NOBODY for one in truth.members]:
        raise Violation(f"order, once: the members at {database.place} are {database.room.members}")
    if database.room.high != truth.high:
        raise Violation(f"versions: the highest at {database.place} is {database.room.high}, not {truth.high}")


def settled(before: Room, after: Room, seen: Seen) -> None:
    """Hold the version that comes into use against what the members were sent."""
    if after.settled <= before.settled:
        raise Violation(f"versions rise: {after.settled} settles after {before.settled}")
    for account, membership in enumerate(after.members):
        if membership != NOBODY and not _holds(seen, account, after.settled):
            raise Violation(f"hold before use: {LETTERS[account]} was never sent version {after.settled}")


def announced(model: Model, database: Database, seen: Seen, event: int) -> Seen:
    """Let a requester see a result."""
    room = database.room
    if room.settled < model.history.needs[event]:
        raise Violation(f"result: event {event} is announced while version {room.settled} is in use")
    for account, membership in enumerate(room.members):
        if membership == event and (seen.told[account] < event or not _holds(seen, account, room.settled)):
            raise Violation(f"result: event {event} is announced before all that it causes")
    return seen._replace(announced=seen.announced | 1 << event)


def ended(model: Model, state: State) -> None:
    """Hold the end, where the owner has nothing left to do, against the log."""
    database, seen, count = state.database, state.seen, len(model.scenario.log)
    room, truth = database.room, model.history.at[count, 0]
    if database.place != (count, 0):
        raise Violation(f"stuck: the log is applied up to {database.place}")
    if room.staged is not None or room.settled != room.high:
        raise Violation(f"stuck: version {room.settled} is in use, the highest is {room.high}")
    if seen.announced != (2 << count) - 2:
        raise Violation("stuck: a result never goes out")
    for account, membership in enumerate(room.members):
        if membership != NOBODY and not _holds(seen, account, room.settled):
            raise Violation(f"reach: {LETTERS[account]} was never sent version {room.settled}")
    if seen.last != truth.last:
        late = next(account for account, event in enumerate(truth.last) if seen.last[account] != event)
        raise Violation(f"notices in order: {LETTERS[late]} heard of event {seen.last[late]} last")


def _holds(seen: Seen, account: int, version: int) -> bool:
    return version >= 0 and bool(seen.sent[account] >> version & 1)


def _put(values: tuple[int, ...], at: int, value: int) -> tuple[int, ...]:
    return (*values[:at], value, *values[at + 1 :])
