"""Hypothesis strategies: rooms in any state, and streams of events about them."""

from dataclasses import dataclass
from typing import NamedTuple

from hypothesis import strategies as st

from roomkeys.membership import Member, Room
from tests.unit.builders import AT, SITE, user
from tests.unit.decisions.model import Body, ModelRoom
from tests.unit.decisions.world import StoredRoom

USERS = [
    user("alice", "eng"),
    user("bob", "eng", "ops"),
    user("carol", "ops"),
    user("dave"),
    user("erin", "ops", "hr"),
    user("helper.bot", "eng"),
    user("p_app", "ops"),
]
PEOPLE = ["alice", "bob", "carol", "dave", "erin"]
BOTS = ["helper.bot", "p_app"]
GHOST = "gina"
"""A member whose user is gone."""
ORGS = ["eng", "ops", "void"]
BAD_SHAPE = ("bad_request", "invalid_event")
BAD_ACCOUNT = ("bad_request", "invalid_account")


@dataclass(frozen=True)
class Initial:
    """A room before the first event. `key` is `ours`, `lost`, `foreign`, or `none`: then `high` is missing too."""

    id: str
    kind: str
    site: str
    owners: frozenset[str]
    members: frozenset[str]
    orgs: frozenset[str]
    individuals: frozenset[str]
    key: str
    version: int

    def roles(self) -> dict[str, str | None]:
        roles = dict.fromkeys(self.members, "member") | dict.fromkeys(self.owners, "owner")
        return {account: role if self.kind == "channel" else None for account, role in roles.items()}

    def kept(self) -> frozenset[str]:
        """Return the individual reasons: a room without orgs has none."""
        return self.individuals & self.roles().keys() if self.orgs else frozenset()

    def for_model(self) -> ModelRoom:
        version = {"none": None, "foreign": self.version + 5}.get(self.key, self.version)
        return ModelRoom(
            self.kind, self.site, self.roles(), set(self.orgs), set(self.kept()), version, self.key == "ours"
        )

    def for_world(self) -> StoredRoom:
        stored = StoredRoom(Room(self.id, "Team", self.kind, self.site))
        for account, role in self.roles().items():
            member = Member(f"s-{self.id}-{account}", f"u-{account}", account, (role,) if role else None)
            stored.members[member.id] = member
        stored.reasons = {("org", org) for org in self.orgs}
        stored.reasons |= {("individual", f"u-{account}") for account in self.kept()}
        stored.bots = sum(account in BOTS for account in self.roles())
        stored.people = len(self.roles()) - stored.bots
        if self.key != "none":
            stored.high = stored.settled = self.version
        if self.key in ("ours", "foreign"):
            stored.enc_is_ours = self.key == "ours"
            stored.enc_version = self.version + (0 if stored.enc_is_ours else 5)
            stored.sent = {account: {stored.enc_version} for account in self.roles()}
        return stored


class Command(NamedTuple):
    """One message of the stream. `refusal` is the error of a message that is invalid in itself."""

    suffix: str
    body: Body
    refusal: tuple[str, str] | None = None


class Step(NamedTuple):
    """A message, whether a batch ends before it, and whether staged keys settle after that batch."""

    command: Command
    cut: bool
    settles: bool


def room_before(room_id: str) -> st.SearchStrategy[Initial | None]:
    owners = st.frozensets(st.sampled_from(PEOPLE), max_size=1)
    people = st.frozensets(st.sampled_from([*PEOPLE, *BOTS, GHOST]))
    sites = st.sampled_from([SITE] * 9 + ["site-b"])
    orgs = st.frozensets(st.sampled_from(ORGS), max_size=2)
    keys = st.sampled_from(["ours", "lost", "none", "foreign"])
    versions = st.integers(0, 9)
    channel = st.tuples(st.just("channel"), sites, owners, people, orgs, people, keys, versions)
    dm = st.tuples(*(st.just(value) for value in ("dm", SITE, frozenset[str]())), people).map(
        lambda values: (*values, frozenset(), frozenset(), "none", 0)
    )
    found = st.one_of(*[channel] * 9, dm).map(lambda values: Initial(room_id, *values))
    return st.one_of(st.none(), found, found, found)


def _some(values: list[str], most: int = 3) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), max_size=most)


def _messages(suffix: str, **fields: st.SearchStrategy[object]) -> st.SearchStrategy[Command]:
    """Return a strategy for messages with these fields; null counts as absent."""
    return st.fixed_dictionaries({"roomId": st.sampled_from(["r1"] * 6 + ["r2", "r3"]), **fields}).map(
        lambda body: Command(suffix, body)
    )


_times = st.sampled_from([0, AT, AT + 1_000, AT + 60_000])
_users = _some([*PEOPLE * 5, *BOTS, GHOST, "nobody"])
_removers = st.sampled_from([*PEOPLE * 4, GHOST, "nobody"])

creates = _messages(
    "create",
    name=st.sampled_from([None, "", "Team"]),
    users=_users,
    orgs=_some(ORGS, 2),
    channels=st.sampled_from([None, [], [{"roomId": "x", "siteId": SITE}]]),
    requesterAccount=st.sampled_from([*PEOPLE * 4, "p_app", "nobody", GHOST]),
    timestamp=_times,
)
dms = _messages(
    "create",
    users=st.sampled_from([*PEOPLE, *BOTS, "nobody", "no.bot"]).map(lambda account: [account]),
    requesterAccount=st.sampled_from([*PEOPLE, *BOTS]),
)
adds = _messages(
    "member.add",
    users=_users,
    orgs=st.none() | _some(ORGS, 2),
    requesterAccount=st.sampled_from([*PEOPLE * 4, "nobody"]),
    timestamp=_times,
)
removes = _messages(
    "member.remove",
    requester=_removers,
    accounts=st.lists(st.sampled_from([*PEOPLE * 5, *BOTS, GHOST, "nobody"]), min_size=1, max_size=3),
    account=st.none() | st.sampled_from(PEOPLE),
    timestamp=_times,
)
leaves = _removers.flatmap(lambda who: _messages("member.remove", requester=st.just(who), account=st.just(who)))
org_removes = _messages("member.remove", requester=_removers, orgId=st.sampled_from(ORGS), timestamp=_times)
rotates = _messages("key.rotate", requester=_removers, timestamp=_times)
invalid_events = st.sampled_from(
    [
        Command("create", {"users": ["bob"], "requesterAccount": "alice"}, BAD_SHAPE),
        Command("member.add", {"roomId": "r2", "requesterAccount": "alice", "users": 5}, BAD_SHAPE),
        Command("member.remove", {"roomId": "r1", "requester": "alice", "account": "a b"}, BAD_ACCOUNT),
    ]
)

_changes = [adds, removes, leaves, org_removes]
commands = st.one_of(creates, dms, rotates, invalid_events, *_changes * 3)
_cuts = st.sampled_from([False, False, False, True])
streams = st.lists(st.builds(Step, commands, _cuts, st.booleans()), max_size=14)
rooms_before = st.tuples(room_before("r1"), room_before("r2"))
