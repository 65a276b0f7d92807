"""Builders: events as a producer publishes them, and snapshots of the database."""

from collections.abc import Iterable, Mapping
from itertools import count

import orjson

from roomkeys.decisions.decide import decide
from roomkeys.decisions.decision import Decision, Outcome, RoomChange
from roomkeys.decisions.snapshot import Snapshot
from roomkeys.events.decode import decode, parse
from roomkeys.events.event import AnyEvent, StreamMessage
from roomkeys.keys import KeyRecord, RoomKey
from roomkeys.membership import MEMBER_ROLES, OWNER_ROLES, Kind, Member, Room, User

SITE = "site-a"
AT = 1_747_000_000_000
"""When the producer accepted an event, unless a test says otherwise (epoch milliseconds)."""
STREAM_MS = AT + 7
"""When the broker stored the event."""
NOW = AT + 1_000
"""When the event is decided."""
REQUEST = "0197a000-0000-7000-8000-000000000001"
ALICE = "alice"

BODIES: dict[str, dict[str, object]] = {
    "create": {"roomId": "r1", "name": "Team", "users": ["bob"], "requesterAccount": ALICE, "timestamp": AT},
    "member.add": {"roomId": "r1", "users": ["bob"], "requesterAccount": ALICE, "timestamp": AT},
    "member.remove": {"roomId": "r1", "accounts": ["bob"], "requester": ALICE, "timestamp": AT},
    "key.rotate": {"roomId": "r1", "requester": ALICE, "timestamp": AT},
}
"""A valid body of each operation, by the suffix of its subject."""


def incoming(suffix: str, body: bytes = b"{}", *, sequence: int = 1, request_id: str | None = None) -> StreamMessage:
    subject = f"chat.room.canonical.{SITE}.{suffix}"
    return StreamMessage(sequence, STREAM_MS * 1_000_000 + 999_999, subject, body, request_id)


def decode_body(suffix: str, body: bytes, *, sequence: int = 1) -> AnyEvent | None:
    """Decode the bytes as the feed does."""
    return decode(incoming(suffix, body, sequence=sequence), parse(body))


def event(suffix: str, /, **fields: object) -> AnyEvent:
    """Decode an event with these JSON fields."""
    decoded = decode_body(suffix, orjson.dumps(fields))
    assert decoded is not None
    return decoded


def changed(suffix: str, **fields: object) -> AnyEvent | None:
    """Decode a valid body in which these fields are different."""
    return decode_body(suffix, orjson.dumps(BODIES[suffix] | fields))


def create(**fields: object) -> AnyEvent:
    return event("create", **{"roomId": "r1", "requesterAccount": ALICE, "timestamp": AT} | fields)


def add(*users: str, **fields: object) -> AnyEvent:
    defaults = {"roomId": "r1", "requesterAccount": ALICE, "timestamp": AT, "users": users}
    return event("member.add", **defaults | fields)


def remove(*accounts: str, **fields: object) -> AnyEvent:
    defaults = {"roomId": "r1", "requester": ALICE, "timestamp": AT, "accounts": accounts}
    return event("member.remove", **defaults | fields)


def rotate(**fields: object) -> AnyEvent:
    return event("key.rotate", **{"roomId": "r1", "requester": ALICE, "timestamp": AT} | fields)


def user(account: str, *orgs: str, eng: str = "", chinese: str = "") -> User:
    return User(f"u-{account}", account, eng, chinese, frozenset(orgs))


def settled(version: int) -> KeyRecord:
    """Return the key record of a room whose key of this version is in use."""
    return KeyRecord(
        high=version, settled=version, current=RoomKey(version, bytes([version % 256]) * 32), highest_seen=version
    )


def room(kind: str = Kind.CHANNEL, *orgs: str, site: str = SITE, keys: KeyRecord | None = None) -> Room:
    """Return the room `r1`: by default a channel called Team at key version 3."""
    keys = settled(3) if keys is None and kind == Kind.CHANNEL else keys or KeyRecord()
    return Room("r1", "Team" if kind == Kind.CHANNEL else "", kind, site, frozenset(orgs), keys)


def snapshot(
    users: Iterable[User],
    existing: Room | None = None,
    members: Iterable[str] = (),
    *,
    owners: Iterable[str] = (),
    individuals: Iterable[str] = (),
    apps: Mapping[str, str] | None = None,
) -> Snapshot:
    """Return the snapshot of one room and these users. Members, owners and individuals are given as accounts."""
    everyone = tuple(users)
    org_ids = {org for person in everyone for org in person.orgs}
    roles = dict.fromkeys(members, MEMBER_ROLES) | dict.fromkeys(owners, OWNER_ROLES)
    return Snapshot(
        rooms={existing.id: existing} if existing else {},
        members={"r1": {account: member(account, roles[account]) for account in roles}},
        individuals={"r1": {account: (f"row-{account}",) for account in individuals}},
        users={person.account: person for person in everyone},
        orgs={org: tuple(p for p in everyone if org in p.orgs and not p.is_bot) for org in org_ids},
        apps=apps or {},
    )


def member(account: str, roles: tuple[str, ...] | None = MEMBER_ROLES) -> Member:
    return Member(f"s-{account}", f"u-{account}", account, roles)


def decided(before: Snapshot, *batch: AnyEvent, most_accounts: int = 5_000) -> Decision:
    """Decide the batch with ids new-1, new-2, …"""
    numbers = count(1)

    def new_id() -> str:
        return f"new-{next(numbers)}"

    return decide(batch, before, site=SITE, now_ms=NOW, new_id=new_id, most=most_accounts)


def only_outcome(decision: Decision) -> Outcome:
    """Return the outcome of the only event."""
    ((only,),) = (entry.outcomes for entry in decision.entries)
    return only


def only_change(decision: Decision) -> RoomChange:
    """Return the change of the only room."""
    (only,) = decision.changes
    return only


def refusal(decision: Decision) -> tuple[str, str]:
    """Return code and reason of the only event, and assert that nothing is written."""
    error = only_outcome(decision).error
    assert error is not None
    assert decision.changes == ()
    return error.code, error.reason


def joined(decision: Decision) -> list[str]:
    """Return the accounts whose membership the batch writes."""
    return [membership.account for membership in only_change(decision).joined]


def reasons(decision: Decision) -> set[tuple[str, str]]:
    """Return the membership reasons that the batch writes: (type, account or org)."""
    return {(reason.type, reason.account or reason.id) for reason in only_change(decision).reasons}
