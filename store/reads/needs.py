"""What a batch of events needs to know, before anything is read."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from roomkeys.events.event import Add, AnyEvent, Create, InvalidEvent, Remove, Rotate
from roomkeys.membership import Kind


@dataclass(frozen=True, slots=True)
class Needs:
    """What events need to know.

    - `accounts`, `orgs`: by room id, the accounts and the orgs that events name.
    - `joining_orgs`, `leaving_orgs`: the rooms that orgs join, and the rooms that orgs leave.
    - `bots`: the accounts of new bot dms, whose app names are needed.
    - `rotating`, `creating`: the rooms that may rotate, and those that may be created.
    """

    accounts: dict[str, set[str]] = field(default_factory=dict)
    orgs: dict[str, set[str]] = field(default_factory=dict)
    joining_orgs: set[str] = field(default_factory=set)
    leaving_orgs: set[str] = field(default_factory=set)
    bots: set[str] = field(default_factory=set)
    rotating: set[str] = field(default_factory=set)
    creating: set[str] = field(default_factory=set)


def needs_of(events: Iterable[AnyEvent]) -> Needs:
    """Return what these events need to know; invalid events need nothing."""
    needs = Needs()
    for event in events:
        if isinstance(event, InvalidEvent):
            continue
        named = needs.accounts.setdefault(event.room_id, set())
        named.update((event.requester, *event.accounts))
        if isinstance(event, Create | Add) and event.orgs:
            needs.orgs.setdefault(event.room_id, set()).update(event.orgs)
            needs.joining_orgs.add(event.room_id)
        elif isinstance(event, Remove) and event.org:
            needs.orgs.setdefault(event.room_id, set()).add(event.org)
            needs.leaving_orgs.add(event.room_id)
        if isinstance(event, Remove | Rotate):
            needs.rotating.add(event.room_id)
        if isinstance(event, Create):
            needs.creating.add(event.room_id)
        if isinstance(event, Create) and event.kind == Kind.BOT_DM:
            needs.bots.update((event.requester, *event.accounts))
    return needs
