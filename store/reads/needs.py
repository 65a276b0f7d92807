"""What a batch of events needs to know, before anything is read."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from roomkeys.events.event import Add, AnyEvent, Create, InvalidEvent, Remove, Rotate
from roomkeys.membership import Kind


@dataclass(frozen=True, slots=True)
class Needs:
    """What events need to know.

    - `accounts`, `orgs`: by room id, the accounts and the orgs that events name.
    - `joining_orgs`, `leaving_orgs`: the rooms that orgs join, and the rooms that orgs leave.
    - `bots`: the accounts of new bot dms, whose app names are needed.
    - `rotating`: the rooms that may rotate.
    """

    accounts: dict[str, set[str]]
    orgs: dict[str, set[str]]
    joining_orgs: frozenset[str]
    leaving_orgs: frozenset[str]
    bots: frozenset[str]
    rotating: frozenset[str]


def needs_of(events: Iterable[AnyEvent]) -> Needs:
    """Return what these events need to know; invalid events need nothing."""
    accounts: defaultdict[str, set[str]] = defaultdict(set)
    orgs: defaultdict[str, set[str]] = defaultdict(set)
    joining, leaving, bots, rotating = set[str](), set[str](), set[str](), set[str]()
    for event in events:
        if isinstance(event, InvalidEvent):
            continue
        accounts[event.room_id] |= {event.requester, *event.accounts}
        if isinstance(event, Create | Add):
            orgs[event.room_id] |= set(event.orgs)
            joining |= {event.room_id} if event.orgs else set()
        elif isinstance(event, Remove) and event.org:
            orgs[event.room_id].add(event.org)
            leaving.add(event.room_id)
        if isinstance(event, Remove | Rotate):
            rotating.add(event.room_id)
        if isinstance(event, Create) and event.kind == Kind.BOT_DM:
            bots |= {event.requester, *event.accounts}
    return Needs(
        dict(accounts), dict(orgs), frozenset(joining), frozenset(leaving), frozenset(bots), frozenset(rotating)
    )
