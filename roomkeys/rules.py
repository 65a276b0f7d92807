"""The rules of the four operations: what an event does to a draft of its room (contract.md, section 1).

A rule checks everything before it changes anything, so a rejected event leaves no trace.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from roomkeys import errors
from roomkeys.decision import Founding, MembersNotice
from roomkeys.draft import Draft
from roomkeys.events import Add, AnyEvent, Create, Poison, Remove, Rotate
from roomkeys.people import MEMBER, OWNER, Kind, Member, Membership, Room, Snapshot, User
from roomkeys.tokens import is_bot

MEMBER_ADDED: Final = "member_added"
MEMBER_LEFT: Final = "member_left"
MEMBER_REMOVED: Final = "member_removed"


@dataclass(frozen=True, slots=True)
class Effect:
    """What one event did to its room, as far as others are told."""

    added: tuple[Membership, ...] = ()
    removed: tuple[Member, ...] = ()
    notice: MembersNotice | None = None


@dataclass(frozen=True, slots=True)
class Desk:
    """What every rule decides with: the database's word, the site, and a source of document ids."""

    snapshot: Snapshot
    site: str
    new_id: Callable[[], str]

    def known(self, account: str, draft: Draft) -> bool:
        """Tell whether the account is a user's or, though its user is gone, still a member's."""
        return account in self.snapshot.users or account in draft.members

    def named(self, accounts: Iterable[str], draft: Draft, requester: str) -> list[User]:
        """Return the users of the accounts; one of them or the requester unknown fails the event."""
        if not self.known(requester, draft):
            raise errors.user_not_found()
        users = [self.snapshot.users.get(account) for account in accounts]
        found = [user for user in users if user is not None]
        if len(found) < len(users):
            raise errors.user_not_found()
        return found

    def of_orgs(self, orgs: Iterable[str]) -> list[User]:
        """Return the users that the orgs stand for."""
        return [user for org in orgs for user in self.snapshot.orgs.get(org, ())]


def take_effect(event: AnyEvent, draft: Draft, desk: Desk) -> Effect:
    """Let the event change the draft; `Rejection` when it can never succeed."""
    match event:
        case Poison():
            raise errors.Rejection(event.error)
        case Create():
            return _create(event, draft, desk)
        case Add():
            return _add(event, draft, desk)
        case Remove():
            return _remove(event, draft, desk)
        case Rotate():
            return _rotate(event, draft, desk)


def _create(event: Create, draft: Draft, desk: Desk) -> Effect:
    if event.kind == Kind.DM and event.users == (event.requester,):
        raise errors.self_dm()
    invited = [account for account in event.users if event.kind != Kind.CHANNEL or not is_bot(account)]
    if event.kind == Kind.BOT_DM and invited[0] not in desk.snapshot.users:
        desk.named((event.requester,), draft, event.requester)
        raise errors.bot_not_available()
    named = desk.named(_distinct_accounts(event.requester, *invited), draft, event.requester)
    if draft.room is None:
        room = Room(event.room_id, event.name if event.kind == Kind.CHANNEL else "", event.kind, desk.site)
        pairs = () if event.kind == Kind.CHANNEL else tuple(sorted((user.id, user.account) for user in named))
        draft.found(room, Founding(event.at_ms, pairs))
    elif (draft.room.kind, draft.room.site) != (event.kind, desk.site):
        raise errors.room_exists()
    people = _distinct_users([*named, *desk.of_orgs(event.orgs)])
    joined = _admit(event, draft, desk, named, people)
    for user in people:
        draft.send_current(user.account, event.at_ms)
    return Effect(added=joined)


def _add(event: Add, draft: Draft, desk: Desk) -> Effect:
    room = _channel(draft)
    invited = [account for account in event.users if not is_bot(account)]
    named = desk.named(invited, draft, event.requester)
    fresh_orgs = [org for org in event.orgs if org not in draft.orgs]
    joined = _admit(event, draft, desk, named, _distinct_users([*named, *desk.of_orgs(event.orgs)]))
    for membership in joined:
        draft.send_current(membership.account, event.at_ms)
    if not joined and not fresh_orgs:
        return Effect()
    history_from_ms = None if event.share_history else event.at_ms
    notice = MembersNotice(
        MEMBER_ADDED, room.name, room.kind, joined_ms=event.at_ms, history_from_ms=history_from_ms
    )
    return Effect(added=joined, notice=notice)


def _admit(
    event: Create | Add, draft: Draft, desk: Desk, named: Iterable[User], people: Iterable[User]
) -> tuple[Membership, ...]:
    """Write who is not yet a member and, in a room with orgs, why each of them is one."""
    for org in event.orgs:
        draft.add_org(org, event.at_ms)
    everyone = list(people)
    newcomers = [user for user in everyone if user.account not in draft.members]
    joined = tuple(_membership(event, draft, desk, user, everyone) for user in newcomers)
    for membership in joined:
        draft.join(membership)
    if draft.orgs:
        for user in named:
            draft.add_individual(user.id, user.account, event.at_ms)
    return joined


def _membership(event: Create | Add, draft: Draft, desk: Desk, user: User, people: Iterable[User]) -> Membership:
    room = draft.room or Room(event.room_id, "", Kind.CHANNEL, desk.site)
    roles: tuple[str, ...] | None = MEMBER
    name = title = room.name
    if isinstance(event, Create) and user.account == event.requester:
        roles = OWNER
    if room.kind != Kind.CHANNEL:
        other = next(person for person in people if person.account != user.account)
        roles, name = None, other.account
        title = desk.snapshot.apps.get(other.account, other.account) if other.is_bot else other.display_name
    return Membership(
        id=desk.new_id(),
        user_id=user.id,
        account=user.account,
        room_id=room.id,
        site=room.site,
        roles=roles,
        name=name,
        kind=room.kind,
        joined_ms=event.at_ms,
        subscribed=room.kind == Kind.BOT_DM and not user.is_bot,
        history_from_ms=event.at_ms if isinstance(event, Add) and not event.share_history else None,
        title=title,
    )


def _remove(event: Remove, draft: Draft, desk: Desk) -> Effect:
    _channel(draft)
    if not all(desk.known(account, draft) for account in (event.requester, *event.accounts)):
        raise errors.user_not_found()
    leaving = _leaving_org(event.org, draft, desk) if event.org else _leaving(event.accounts, draft, desk)
    removed = tuple(draft.leave(account) for account in leaving)
    for member in removed:
        draft.drop_individual(member.user_id)
    if event.org and event.org in draft.orgs:
        draft.drop_org(event.org)
    if not removed:
        return Effect()
    draft.rotate(event.at_ms)
    alone = event.org is None and event.accounts == (event.requester,)
    return Effect(removed=removed, notice=MembersNotice(MEMBER_LEFT if alone else MEMBER_REMOVED, org=event.org))


def _leaving(accounts: Iterable[str], draft: Draft, desk: Desk) -> list[str]:
    """Return whose membership ends; who stays through an org stays as a member without a row."""
    leaving = []
    for account in accounts:
        if account not in draft.members:
            continue
        if draft.covers(desk.snapshot.users.get(account)):
            draft.drop_individual(draft.members[account].user_id)
            draft.demote(account)
        else:
            leaving.append(account)
    return leaving


def _leaving_org(org: str, draft: Draft, desk: Desk) -> list[str]:
    """Return who was a member through this org only; an org without a row is nobody's reason."""
    if org not in draft.orgs:
        return []
    others = draft.orgs - {org}
    return [
        user.account
        for user in desk.of_orgs((org,))
        if user.account in draft.members and user.orgs.isdisjoint(others) and not draft.is_individual(user.id)
    ]


def _rotate(event: Rotate, draft: Draft, desk: Desk) -> Effect:
    _channel(draft)
    if not desk.known(event.requester, draft):
        raise errors.user_not_found()
    draft.rotate(event.at_ms)
    return Effect()


def _channel(draft: Draft) -> Room:
    if draft.room is None:
        raise errors.room_not_found()
    if draft.room.kind != Kind.CHANNEL:
        raise errors.non_channel_operation()
    return draft.room


def _distinct_accounts(*accounts: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(accounts))


def _distinct_users(users: Iterable[User]) -> list[User]:
    return list({user.account: user for user in users}.values())
