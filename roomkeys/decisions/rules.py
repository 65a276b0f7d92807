"""The rules of the four operations: what an event does to the draft of its room. (docs/contract.md, section 1)

A rule checks everything before it changes anything, so a rejected event leaves no trace.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from roomkeys import errors
from roomkeys.decisions.decision import MEMBER_ADDED, MEMBER_LEFT, MEMBER_REMOVED, MembersNotice, RoomCreation
from roomkeys.decisions.draft import Draft
from roomkeys.decisions.snapshot import Snapshot
from roomkeys.events.event import Add, AnyEvent, Create, InvalidEvent, Remove, Rotate
from roomkeys.membership import MEMBER_ROLES, OWNER_ROLES, Kind, Member, Membership, Room, User
from roomkeys.tokens import is_bot

NewId = Callable[[], str]
"""Makes the id of a new document."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What one event did to its room, as far as notices report it."""

    added: tuple[Membership, ...] = ()
    removed: tuple[Member, ...] = ()
    notice: MembersNotice | None = None


@dataclass(frozen=True, slots=True)
class SliceContext:
    """Which slice of its event is decided; by default all of the event.

    - `resumed`: a slice has been applied before, so an unknown account no longer fails the event.
    - `is_last`: no slice comes after this one.
    - `notice_sent`: an earlier slice has sent the room its notice.
    - `unknown_account`: an account that the event names, in whichever slice, and that does not exist.
    """

    resumed: bool = False
    is_last: bool = True
    notice_sent: bool = False
    unknown_account: str | None = None

    @property
    def whole(self) -> bool:
        """Tell whether the event is decided as a whole."""
        return self.is_last and not self.resumed


@dataclass(frozen=True, slots=True)
class RuleContext:
    """What every rule decides with."""

    snapshot: Snapshot
    site: str
    new_id: NewId
    slice: SliceContext = SliceContext()

    def require_known(self, accounts: Iterable[str], draft: Draft) -> None:
        """Reject the event if an account is neither a user nor a member: a member's user may be gone."""
        self._require_none(one for one in accounts if one not in self.snapshot.users and one not in draft.members)

    def users(self, accounts: Iterable[str]) -> list[User]:
        """Return the users of the accounts; reject the event if one is unknown."""
        users = {account: self.snapshot.users.get(account) for account in accounts}
        self._require_none(account for account, user in users.items() if user is None)
        return [user for user in users.values() if user is not None]

    def _require_none(self, unknown: Iterable[str]) -> None:
        account = next(iter(unknown), self.slice.unknown_account)
        if account is not None and not self.slice.resumed:
            raise errors.user_not_found(account)

    def of_orgs(self, orgs: Iterable[str]) -> list[User]:
        """Return the users of the orgs, without bots."""
        return [user for org in orgs for user in self.snapshot.orgs.get(org, ())]


def take_effect(event: AnyEvent, draft: Draft, context: RuleContext) -> Effect:
    """Apply the event to the draft; raise `Rejection` if it can never succeed."""
    match event:
        case InvalidEvent():
            raise errors.Rejection(event.error)
        case Create():
            return _create(event, draft, context)
        case Add():
            return _add(event, draft, context)
        case Remove():
            return _remove(event, draft, context)
        case Rotate():
            return _rotate(event, draft, context)


def _create(event: Create, draft: Draft, context: RuleContext) -> Effect:
    named = _named_people(event, context)
    room = draft.room
    if room is None and event.room_id in context.snapshot.clashes:
        raise errors.Rejection(errors.ROOM_EXISTS)
    if room is None:
        room = Room(event.room_id, event.name if event.kind == Kind.CHANNEL else "", event.kind, context.site)
        pairs = () if event.kind == Kind.CHANNEL else tuple(sorted((user.id, user.account) for user in named))
        draft.create(room, RoomCreation(event.at_ms, pairs), event.origin.time_ms)
    elif (room.kind, room.site) != (event.kind, context.site):
        raise errors.Rejection(errors.ROOM_EXISTS)
    people = _distinct([*named, *context.of_orgs(event.orgs)])
    joined = _admit(event, room, draft, context, named, people)
    for user in people:
        draft.send_key(user.account, event.origin.time_ms)
    return Effect(added=joined)


def _named_people(event: Create, context: RuleContext) -> list[User]:
    """Return the users whom the event names; the requester comes first, and only in the first slice."""
    if event.kind == Kind.CHANNEL:
        invited = [account for account in event.accounts if not is_bot(account)]
        return context.users(invited if context.slice.resumed else dict.fromkeys((event.requester, *invited)))
    if event.accounts == (event.requester,):
        raise errors.Rejection(errors.SELF_DM)
    requester = context.users((event.requester,))
    if event.kind == Kind.BOT_DM and event.accounts[0] not in context.snapshot.users:
        raise errors.Rejection(errors.BOT_NOT_AVAILABLE)
    return requester + context.users(event.accounts)


def _add(event: Add, draft: Draft, context: RuleContext) -> Effect:
    room = _channel(draft, context)
    context.require_known((event.requester,), draft)
    named = context.users(account for account in event.accounts if not is_bot(account))
    orgs_before = set(draft.orgs)
    joined = _admit(event, room, draft, context, named, _distinct([*named, *context.of_orgs(event.orgs)]))
    for membership in joined:
        draft.send_key(membership.account, event.origin.time_ms)
    org_alone = draft.orgs != orgs_before and context.slice.is_last and not context.slice.notice_sent
    if not joined and not org_alone:
        return Effect()
    since = None if event.share_history else event.at_ms
    notice = MembersNotice(MEMBER_ADDED, room.name, room.kind, joined_ms=event.at_ms, history_from_ms=since)
    return Effect(added=joined, notice=notice)


def _admit(
    event: Create | Add, room: Room, draft: Draft, context: RuleContext, named: Iterable[User], people: Sequence[User]
) -> tuple[Membership, ...]:
    """Add those of `people` who are not members yet and, in a room with orgs, the reasons of those `named`."""
    for org in event.orgs:
        draft.add_org(org, event.at_ms)
    joiners = [user for user in people if user.account not in draft.members]
    joined = tuple(_membership(event, room, context, user, people) for user in joiners)
    for membership in joined:
        draft.join(membership)
    if draft.orgs:
        for user in named:
            draft.add_individual(user.id, user.account, event.at_ms)
    return joined


def _membership(
    event: Create | Add, room: Room, context: RuleContext, user: User, people: Sequence[User]
) -> Membership:
    """Return a user's membership; in a dm, which has two people, it is named after the other one."""
    if room.kind == Kind.CHANNEL:
        is_owner = isinstance(event, Create) and user.account == event.requester
        roles, name, title = OWNER_ROLES if is_owner else MEMBER_ROLES, room.name, room.name
    else:
        other = people[1] if user == people[0] else people[0]
        roles, name = None, other.account
        title = context.snapshot.apps.get(name, name) if other.is_bot else other.display_name
    return Membership(
        id=context.new_id(),
        user_id=user.id,
        account=user.account,
        room_id=room.id,
        site=room.site or context.site,
        roles=roles,
        name=name,
        kind=room.kind,
        joined_ms=event.at_ms,
        subscribed=room.kind == Kind.BOT_DM and not user.is_bot,
        history_from_ms=event.at_ms if isinstance(event, Add) and not event.share_history else None,
        title=title,
    )


def _remove(event: Remove, draft: Draft, context: RuleContext) -> Effect:
    _channel(draft, context)
    context.require_known((event.requester, *event.accounts), draft)
    leaving = _leaving_org(event.org, draft, context) if event.org else _leaving(event.accounts, draft, context)
    removed = tuple(draft.leave(account) for account in leaving)
    if event.org and event.org in draft.orgs and context.slice.is_last:
        draft.drop_org(event.org)
    if not removed:
        return Effect()
    draft.rotate(event.origin.time_ms)
    alone = event.org is None and leaving == [event.requester] and context.slice.whole
    return Effect(removed=removed, notice=MembersNotice(MEMBER_LEFT if alone else MEMBER_REMOVED, org=event.org))


def _leaving(accounts: Sequence[str], draft: Draft, context: RuleContext) -> list[str]:
    """Return the accounts whose membership ends. A member whom an org covers stays, as a plain member.

    An account that is no member may still have a reason, if another program has deleted only the membership.
    """
    members = [account for account in accounts if account in draft.members]
    for account in accounts:
        draft.forget_reasons(account)
    covered = [account for account in members if draft.covers(context.snapshot.users.get(account))]
    for account in covered:
        draft.demote(account)
    return [account for account in members if account not in covered]


def _leaving_org(org: str, draft: Draft, context: RuleContext) -> list[str]:
    """Return the accounts that are members through this org only; none if the room does not have the org."""
    if org not in draft.orgs:
        return []
    others = draft.orgs - {org}
    return [
        user.account
        for user in context.of_orgs((org,))
        if user.account in draft.members and user.orgs.isdisjoint(others) and not draft.is_individual(user.account)
    ]


def _rotate(event: Rotate, draft: Draft, context: RuleContext) -> Effect:
    _channel(draft, context)
    context.require_known((event.requester,), draft)
    draft.rotate(event.origin.time_ms)
    return Effect()


def _channel(draft: Draft, context: RuleContext) -> Room:
    """Return the room if its members and its key can change. A room without a site belongs to the site that asks."""
    if draft.room is None or draft.room.site not in {"", context.site}:
        raise errors.Rejection(errors.ROOM_NOT_FOUND)
    if draft.room.kind != Kind.CHANNEL:
        raise errors.Rejection(errors.NON_CHANNEL_OPERATION)
    return draft.room


def _distinct(users: Iterable[User]) -> list[User]:
    return list({user.account: user for user in users}.values())
