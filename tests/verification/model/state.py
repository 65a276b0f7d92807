"""What a search explores: the database, two workers, and what accounts and requesters have received.

A state consists of tuples only, so that it can be hashed and compared. Accounts are small numbers, shown as
letters. A key is its version and its bytes, and the bytes are represented by the epoch that made them.
"""

from enum import StrEnum
from typing import NamedTuple

from tests.verification.model.scenario import Scenario

NO_MEMBER = -1
"""What stands for the membership of an account that has none; otherwise the number of the event that made it."""

NO_VERSION = -1
"""The version of a room that never had a key."""

Key = tuple[int, int]
Members = tuple[int, ...]
Position = tuple[int, int]
"""How many events are applied, and how many slices of the next one."""


class Notice(NamedTuple):
    """A `subscription.update` to one account."""

    account: int
    event: int
    joined: bool


class OutboxEntry(NamedTuple):
    """What a batch, or a slice, still has to send; identified by the position after it."""

    position: Position
    notices: tuple[Notice, ...]
    joiners: tuple[int, ...]
    results: tuple[int, ...]
    high: int


class Room(NamedTuple):
    """The document of the room, and its memberships."""

    high: int
    settled: int
    current: Key | None
    staged: Key | None
    members: Members


class Database(NamedTuple):
    """The cursor of the partition, its only room, and its outbox.

    `rotates` says whether the event that is applied up to a slice has to rotate the room in the end. `waiting` are
    the numbers of the events that the cursor has passed although they have no effect yet: the room is set aside.
    `letters` are the events whose dead letter is owed. `done` counts the events that have taken effect or were given
    up; no worker knows it. The cursor keeps the `highest` version that the room ever used.
    """

    epoch: int
    position: Position
    rotates: bool
    room: Room
    outbox: tuple[OutboxEntry, ...]
    waiting: tuple[int, ...] = ()
    done: int = 0
    highest: int = NO_VERSION
    letters: tuple[int, ...] = ()

    @property
    def effective(self) -> Position:
        """Return the position of the events that have taken effect, which are always a prefix of the log."""
        return self.done, self.position[1]


class Received(NamedTuple):
    """What has reached accounts and requesters; no worker knows it.

    Per account: the versions that it was sent (as bits), the last event whose notice said that it joined, and
    the last event of which the owner of the lease sent it a notice. `results` are the events whose result is out
    (as bits), `letters` those whose dead letter is in its stream, and `key_bytes` are the bytes of each version.
    """

    versions: tuple[int, ...]
    join_notices: tuple[int, ...]
    last_notices: tuple[int, ...]
    results: int
    key_bytes: tuple[int, ...]
    letters: int = 0


NO_PAGE = (-1, NO_MEMBER)
"""What a pass reads after the last page."""


class Phase(StrEnum):
    """What a pass does next."""

    READ_KEY = "read key"
    READ_PAGE = "read page"
    SEND_PAGE = "send page"
    DONE = "done"


class Rollout(NamedTuple):
    """A large room whose staged key is on its way, and its pass; a page is one account and its membership.

    `after` is where the next page begins. `read_ahead` is the page after `page` if it has been read already.
    """

    phase: Phase
    after: int = 0
    key: Key | None = None
    page: tuple[int, int] | None = None
    read_ahead: tuple[int, int] | None = None


class Step(StrEnum):
    """What a worker does next."""

    NO_LEASE = "no lease"
    READ_OUTBOX = "read outbox"
    READ_KEYS = "read keys"
    READ_MEMBERS = "read members"
    BATCH = "batch"
    APPLY = "apply"
    COMMITTED = "committed"
    SET_ASIDE = "set aside"
    RETRY = "retry"
    GIVE_UP = "give up"
    DELIVER = "deliver"
    READ_SURVIVORS = "read survivors"
    FAN_OUT = "fan out"
    SETTLE = "settle"
    ANNOUNCE = "announce"
    UNCONFIRMED = "unconfirmed"


class Worker(NamedTuple):
    """What a worker remembers under one lease.

    `batch` has the outbox entries that are to be delivered, `pending` those whose results wait, and `finished`
    those that may be deleted. `needs_fanout` says that the staged key has not been given to the loop or to a
    rollout yet. `excluded` are the accounts that the rollout excludes. `survivors` are the members as the batch
    that staged the key left them, and `recipients` are those that the loop sends it to. `batch_size` is how many
    events the batch takes. `waiting` are the events of the room if it is set aside. `postponed` says that a settle
    was refused and is to be tried again. `letters` are the events whose dead letter is in the stream and still in the
    outbox. `owed` are joiners to whom the current key was denied, and `owed_read` is that key with the memberships of
    those who are still members. `members_before` and `fence_read` serve searches that leave out a rule.
    """

    epoch: int = 0
    step: Step = Step.NO_LEASE
    position: Position = (0, 0)
    batch: tuple[OutboxEntry, ...] = ()
    pending: tuple[OutboxEntry, ...] = ()
    finished: tuple[OutboxEntry, ...] = ()
    current: Key | None = None
    staged: Key | None = None
    settled: int = NO_VERSION
    needs_fanout: bool = False
    excluded: tuple[int, ...] = ()
    survivors: Members = ()
    recipients: Members = ()
    batch_size: int = 0
    waiting: tuple[int, ...] = ()
    letters: tuple[int, ...] = ()
    owed: tuple[int, ...] = ()
    owed_read: tuple[Key, tuple[tuple[int, int], ...]] | None = None
    rollout: Rollout | None = None
    postponed: bool = False
    members_before: Members | None = None
    fence_read: Room | None = None


class Outage(StrEnum):
    """Whether the database refuses every transaction."""

    NONE = "none"
    BEGUN = "begun"
    """It refuses one more transaction at least."""
    GOES_ON = "goes on"
    """It may end before the next transaction, or refuse that one too."""


class State(NamedTuple):
    """Everything, with how often the lease, the connection, a transaction and the database may still fail."""

    database: Database
    received: Received
    workers: tuple[Worker, ...]
    takeovers: int
    disconnects: int
    conflicts: int
    outages: int = 0
    denials: int = 0
    outage: Outage = Outage.NONE


def start(scenario: Scenario) -> State:
    """Return the state in which no event is applied and no worker has the lease."""
    members = tuple(0 if account in scenario.members else NO_MEMBER for account in range(scenario.accounts))
    version = 0 if scenario.has_key else NO_VERSION
    key = (0, 0) if scenario.has_key else None
    nothing = (0,) * scenario.accounts
    sent = tuple(int(scenario.has_key and account in scenario.members) for account in range(scenario.accounts))
    return State(
        Database(0, (0, 0), rotates=False, room=Room(version, version, key, None, members), outbox=(), highest=version),
        Received(sent, nothing, nothing, 0, (0,) if scenario.has_key else ()),
        (Worker(), Worker()),
        scenario.takeovers,
        scenario.disconnects,
        scenario.conflicts,
        scenario.outages,
        scenario.denials,
    )
