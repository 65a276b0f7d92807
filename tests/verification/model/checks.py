"""The invariants, each checked at the moment at which a step could break it."""

from typing import NamedTuple

from tests.verification.invariants import Invariant
from tests.verification.model.expected import Expectations
from tests.verification.model.rules import Rule
from tests.verification.model.scenario import Scenario, names
from tests.verification.model.state import NO_MEMBER, Database, Key, Notice, Received, Room, State, Worker


class Violation(Exception):
    """An invariant does not hold."""

    def __init__(self, invariant: Invariant, text: str) -> None:
        super().__init__(invariant, text)
        self.invariant = invariant
        self.text = text

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


class Model(NamedTuple):
    """What is searched: a scenario, what its log must lead to, and the rules that are left out."""

    scenario: Scenario
    expectations: Expectations
    left_out: frozenset[Rule]


def receive_notice(database: Database, received: Received, worker: Worker, notice: Notice) -> Received:
    """Give a notice to its account. A worker without the lease may repeat old notices; no fence can stop it."""
    if notice.joined and notice.event > received.join_notices[notice.account]:
        received = received._replace(join_notices=_put(received.join_notices, notice.account, notice.event))
    if worker.epoch == database.epoch or notice.event > received.last_notices[notice.account]:
        received = received._replace(last_notices=_put(received.last_notices, notice.account, notice.event))
    return received


def receive_key(
    model: Model, database: Database, received: Received, account: int, key: Key, membership: int
) -> Received:
    """Give a key to an account because of a membership (0: one whose notice went out just before)."""
    version, name = key[0], names((account,))
    if version >= model.expectations.at[database.effective].first_barred[account]:
        raise Violation(Invariant.EXCLUSION, f"{name} is sent version {version}, which must not reach it")
    if membership > received.join_notices[account]:
        raise Violation(Invariant.ORDER_ONCE, f"{name} is sent version {version} before the notice that it joined")
    sent = _put(received.versions, account, received.versions[account] | 1 << version)
    return check_bytes(received._replace(versions=sent), key)


def check_bytes(received: Received, key: Key) -> Received:
    """Check that a version has the bytes that it had before; return what is known of all versions."""
    version, maker = key
    if version < len(received.key_bytes):
        if received.key_bytes[version] not in (NO_MEMBER, maker):
            raise Violation(Invariant.ONE_KEY_PER_VERSION, f"version {version} has two different keys")
        known = received.key_bytes[version] == maker
        return received if known else received._replace(key_bytes=_put(received.key_bytes, version, maker))
    unused = (NO_MEMBER,) * (version - len(received.key_bytes))
    return received._replace(key_bytes=(*received.key_bytes, *unused, maker))


def check_applied(model: Model, database: Database) -> None:
    """Compare memberships and versions with the log."""
    at = database.effective
    expected = model.expectations.at[at]
    members = [membership != NO_MEMBER for membership in database.room.members]
    if members != [membership != NO_MEMBER for membership in expected.members]:
        raise Violation(Invariant.ORDER_ONCE, f"at {at} the members are {database.room.members}")
    if database.room.high != expected.high:
        text = f"at {at} the highest version is {database.room.high} instead of {expected.high}"
        raise Violation(Invariant.ORDER_ONCE, text)


def check_order(database: Database, number: int) -> None:
    """Check that an event is the next one to take effect, or to be given up."""
    if number != database.done + 1:
        text = f"event {number} takes effect although {database.done} events have"
        raise Violation(Invariant.ORDER_ONCE, text)


def check_given_up(model: Model, number: int) -> None:
    """Check that the database refuses an event that is given up."""
    if number not in model.scenario.refused:
        raise Violation(Invariant.ORDER_ONCE, f"event {number} is given up although the database would take it")


def check_settled(before: Room, after: Room, received: Received) -> None:
    """Check that the version that comes into use is new and that every member was sent it."""
    if after.settled <= before.settled:
        raise Violation(Invariant.ONE_KEY_PER_VERSION, f"version {after.settled} settles after {before.settled}")
    for account, membership in enumerate(after.members):
        if membership != NO_MEMBER and not _has(received, account, after.settled):
            text = f"version {after.settled} settles although {names((account,))} was never sent it"
            raise Violation(Invariant.HOLD_BEFORE_USE, text)


def receive_result(model: Model, database: Database, received: Received, event: int) -> Received:
    """Give the result of an event to its requester."""
    room, applied = database.room, model.scenario.log[: database.done]
    if any(later.kind == "create" for later in applied[event:]):
        return received._replace(results=received.results | 1 << event)  # the room of the event is deleted
    if room.settled < model.expectations.needed_versions[event]:
        text = f"the result of event {event} goes out while version {room.settled} is in use"
        raise Violation(Invariant.EXCLUSION, text)
    for account, membership in enumerate(room.members):
        name = names((account,))
        if membership == event and not _has(received, account, room.settled):
            raise Violation(Invariant.REACH, f"the result of event {event} goes out although {name} has no key")
        if membership == event and received.join_notices[account] < event:
            raise Violation(Invariant.ORDER_ONCE, f"the result of event {event} goes out before the notice to {name}")
    return received._replace(results=received.results | 1 << event)


def check_end(model: Model, state: State) -> None:
    """Compare the end, when the owner has nothing left to do, with the log."""
    database, received, count = state.database, state.received, len(model.scenario.log)
    room, expected = database.room, model.expectations.at[count, 0]
    if database.effective != (count, 0):
        raise Violation(Invariant.ORDER_ONCE, f"in the end the log is applied up to {database.effective} only")
    if room.staged is not None or room.settled != room.high:
        text = f"in the end version {room.settled} is in use although the highest is {room.high}"
        raise Violation(Invariant.REACH, text)
    if received.results != (2 << count) - 2:
        raise Violation(Invariant.ORDER_ONCE, "in the end the result of an event has not gone out")
    rejected = [number for number, event in enumerate(model.scenario.log, 1) if event.kind == "reject"]
    if received.letters != sum(1 << number for number in rejected):
        raise Violation(Invariant.ORDER_ONCE, "in the end a dead letter is not in its stream")
    for account, membership in enumerate(room.members):
        if membership != NO_MEMBER and not _has(received, account, room.settled):
            text = f"in the end {names((account,))} was never sent version {room.settled}"
            raise Violation(Invariant.REACH, text)
    for account, event in enumerate(expected.last_events):
        if received.last_notices[account] != event:
            last = f"the last notice to {names((account,))} is that of event {received.last_notices[account]}"
            raise Violation(Invariant.ORDER_ONCE, f"in the end {last} instead of {event}")


def _has(received: Received, account: int, version: int) -> bool:
    return version >= 0 and bool(received.versions[account] >> version & 1)


def _put(values: tuple[int, ...], at: int, value: int) -> tuple[int, ...]:
    return (*values[:at], value, *values[at + 1 :])
