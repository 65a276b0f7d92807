"""What there is: an event log, a database, two workers, and what the accounts were sent.

All of it is tuples, so that a state is its own identity. Accounts are small numbers, shown as letters. A key is
its version and its bytes, and bytes are known by the epoch that made them.
"""

from enum import StrEnum
from typing import NamedTuple

NOBODY = -1
"""What stands for an account's membership when it has none; otherwise the number of the event that made it."""

NEVER = -1
"""The version of a room that never had a key."""

Key = tuple[int, int]
Members = tuple[int, ...]


class Event(NamedTuple):
    """One event of the log; one that is `sliced` is applied one account at a time."""

    kind: str
    accounts: tuple[int, ...] = ()
    sliced: bool = False


class Notice(NamedTuple):
    """A `subscription.update` to one account."""

    account: int
    event: int
    joined: bool


class Entry(NamedTuple):
    """An outbox entry: what a batch, or a slice, owes."""

    place: tuple[int, int]
    notices: tuple[Notice, ...]
    joiners: tuple[int, ...]
    results: tuple[int, ...]
    high: int


class Room(NamedTuple):
    """The room's document and its memberships."""

    high: int
    settled: int
    current: Key | None
    staged: Key | None
    members: Members


class Database(NamedTuple):
    """The partition's cursor, its room and its outbox; `place` is (events applied, slices of the next one)."""

    epoch: int
    place: tuple[int, int]
    rotates: bool
    room: Room
    outbox: tuple[Entry, ...]


class Seen(NamedTuple):
    """What the accounts and requesters have seen; nothing of it is known to a worker.

    Per account: the versions it was sent (as bits), the last event whose joining it was told of, and the last
    event that it was told of by the owner of the lease. Then which results are out, and each version's bytes.
    """

    sent: tuple[int, ...]
    told: tuple[int, ...]
    last: tuple[int, ...]
    announced: int
    made: tuple[int, ...]


NO_PAGE = (-1, NOBODY)
"""What is read after the last page."""


class Phase(StrEnum):
    """Where a drainer's pass is."""

    KEY = "key"
    READ = "read"
    SEND = "send"
    DONE = "done"


class Drainer(NamedTuple):
    """A pass over a big room, account by account; `page` is an account and its membership.

    `ahead` is the page after it, if that has been read already; there may be none.
    """

    phase: Phase
    after: int = 0
    key: Key | None = None
    page: tuple[int, int] | None = None
    ahead: tuple[int, int] | None = None


class Step(StrEnum):
    """What a loop does next."""

    OUT = "out"
    ENTRIES = "entries"
    KEYS = "keys"
    MEMBERS = "members"
    DELIVER = "deliver"
    SURVIVORS = "survivors"
    SEND = "send"
    SETTLE = "settle"
    ANNOUNCE = "announce"
    IDLE = "idle"
    APPLY = "apply"
    RETURN = "return"
    BROKEN = "broken"


class Worker(NamedTuple):
    """A worker's memory; `OUT` without a lease.

    `work` is what is being delivered, `held` what is not yet announced, `paid` what may be struck. `fresh`: the
    staged key needs a pass. `left_out` are the joiners whom its drainer leaves to the loop, `known` the members as
    the batch that staged the key left them, `page` those a pass in the loop goes to, `taken` the size of the
    batch. `before` and `begun` serve broken rules only.
    """

    epoch: int = 0
    step: Step = Step.OUT
    place: tuple[int, int] = (0, 0)
    work: tuple[Entry, ...] = ()
    held: tuple[Entry, ...] = ()
    paid: tuple[Entry, ...] = ()
    current: Key | None = None
    staged: Key | None = None
    settled: int = NEVER
    fresh: bool = False
    left_out: tuple[int, ...] = ()
    known: Members = ()
    page: Members = ()
    taken: int = 0
    drainer: Drainer | None = None
    before: Members | None = None
    begun: Room | None = None


class State(NamedTuple):
    """Everything, and what may still go wrong."""

    database: Database
    seen: Seen
    workers: tuple[Worker, ...]
    takes: int
    breaks: int
    conflicts: int


class Scenario(NamedTuple):
    """A log, a room and what may go wrong: voluntary takeovers, broken connections, write conflicts.

    `size` is `small`, `big`, or `either`: then each pass goes both ways. A room that is not `keyed` begins
    without a key. `most` is the largest batch.
    """

    log: tuple[Event, ...]
    members: tuple[int, ...] = (0, 1)
    accounts: int = 3
    size: str = "big"
    keyed: bool = True
    takes: int = 1
    breaks: int = 0
    conflicts: int = 0
    most: int = 3


def start(scenario: Scenario) -> State:
    """Return the state in which the log is full and nobody has the lease."""
    members = tuple(0 if account in scenario.members else NOBODY for account in range(scenario.accounts))
    version = 0 if scenario.keyed else NEVER
    key = (0, 0) if scenario.keyed else None
    nothing = (0,) * scenario.accounts
    sent = tuple(int(scenario.keyed and account in scenario.members) for account in range(scenario.accounts))
    return State(
        Database(0, (0, 0), rotates=False, room=Room(version, version, key, None, members), outbox=()),
        Seen(sent, nothing, nothing, 0, (0,) if scenario.keyed else ()),
        (Worker(), Worker()),
        scenario.takes,
        scenario.breaks,
        scenario.conflicts,
    )
