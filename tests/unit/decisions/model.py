"""An independent model of docs/contract.md, section 1: one event at a time, on plain dictionaries.

It was written from the contract alone and shares no code with the rules. The contract leaves three things open: a
dm has no key; the room is looked up before the users; in a removal or rotation, a member whose user is gone is
still known.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Body = Mapping[str, object]
NOT_A_CHANNEL = ("bad_request", "non_channel_operation")
NO_ROOM = ("not_found", "room_not_found")
NO_USER = ("not_found", "user_not_found")
NO_BOT = ("not_found", "bot_not_available")
SELF_DM = ("bad_request", "self_dm")
EXISTS = ("conflict", "room_exists")


@dataclass
class ModelRoom:
    kind: str
    site: str
    members: dict[str, str | None] = field(default_factory=dict)  # account -> owner, member; None in a dm
    orgs: set[str] = field(default_factory=set)
    individuals: set[str] = field(default_factory=set)
    version: int | None = None  # the highest ever used
    has_key: bool = False


@dataclass(frozen=True)
class ModelOutcome:
    """The outcome of one event, as far as notices and results report it."""

    error: tuple[str, str] | None = None
    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    notice: str | None = None


class RefusedError(Exception):
    """The event can never succeed: code and reason."""


def is_bot(account: str) -> bool:
    return account.endswith(".bot") or account.startswith("p_")


def texts(body: Body, name: str) -> list[str]:
    value = body.get(name)
    return list(dict.fromkeys(value)) if isinstance(value, list | tuple) else []


class Model:
    """`people` says which orgs (section and department) each known account belongs to."""

    def __init__(self, rooms: dict[str, ModelRoom], people: Mapping[str, frozenset[str]], site: str) -> None:
        self.rooms, self.people, self.site = rooms, people, site

    def apply(self, suffix: str, body: Body, stream_ms: int) -> ModelOutcome:
        steps = {"create": self._create, "member.add": self._add, "member.remove": self._remove}
        try:
            return steps.get(suffix, self._rotate)(body, stream_ms)
        except RefusedError as refused:
            return ModelOutcome(error=(refused.args[0], refused.args[1]))

    def _create(self, body: Body, stream_ms: int) -> ModelOutcome:
        room_id, requester = str(body["roomId"]), str(body["requesterAccount"])
        users, orgs = texts(body, "users"), texts(body, "orgs")
        kind = "channel"
        if not body.get("name") and not orgs and not body.get("channels") and len(users) == 1:
            kind = "botDM" if is_bot(users[0]) else "dm"
        if kind != "channel" and users == [requester]:
            raise RefusedError(*SELF_DM)
        self._must_exist([requester])
        if kind == "botDM" and users[0] not in self.people:
            raise RefusedError(*NO_BOT)
        named = [requester, *(one for one in users if kind != "channel" or not is_bot(one))]
        self._must_exist(named)
        room = self.rooms.get(room_id)
        if room is not None and (room.kind, room.site) != (kind, self.site):
            raise RefusedError(*EXISTS)
        if room is None:
            room = self.rooms[room_id] = ModelRoom(kind, self.site)
            if kind == "channel":
                room.version, room.has_key = 0, True
        added = self._admit(room, named, orgs)
        for account in added:
            room.members[account] = None if kind != "channel" else "member"
        if requester in added and kind == "channel":
            room.members[requester] = "owner"
        self._must_have_key(room, stream_ms)
        return ModelOutcome(added=added)

    def _add(self, body: Body, stream_ms: int) -> ModelOutcome:
        room = self._channel(body)
        named = [one for one in texts(body, "users") if not is_bot(one)]
        self._must_exist([str(body["requesterAccount"]), *named])
        orgs = texts(body, "orgs")
        new_orgs = set(orgs) - room.orgs
        added = self._admit(room, named, orgs)
        room.members |= dict.fromkeys(added, "member")
        if added:
            self._must_have_key(room, stream_ms)
        return ModelOutcome(added=added, notice="member_added" if added or new_orgs else None)

    def _remove(self, body: Body, stream_ms: int) -> ModelOutcome:
        room, requester = self._channel(body), str(body["requester"])
        one = [str(body["account"])] if body.get("account") else []
        accounts = list(dict.fromkeys([*one, *texts(body, "accounts")]))
        self._must_exist([requester, *accounts], or_in=room)
        org = body.get("orgId")
        gone = self._leave_org(room, org) if isinstance(org, str) else self._leave(room, accounts)
        if not gone:
            return ModelOutcome()
        self._rotate_key(room, stream_ms)
        alone = org is None and list(gone) == [requester]
        return ModelOutcome(removed=gone, notice="member_left" if alone else "member_removed")

    def _rotate(self, body: Body, stream_ms: int) -> ModelOutcome:
        room = self._channel(body)
        self._must_exist([str(body["requester"])], or_in=room)
        self._rotate_key(room, stream_ms)
        return ModelOutcome()

    def _admit(self, room: ModelRoom, named: list[str], orgs: list[str]) -> frozenset[str]:
        if orgs and not room.orgs:
            room.individuals |= set(room.members)
        room.orgs |= set(orgs)
        if room.orgs:
            room.individuals |= set(named)
        everyone = {*named, *(account for org in orgs for account in self._of(org))}
        return frozenset(everyone - set(room.members))

    def _leave(self, room: ModelRoom, accounts: list[str]) -> frozenset[str]:
        gone = set()
        for account in room.members.keys() & set(accounts):
            room.individuals.discard(account)
            if any(account in self._of(org) for org in room.orgs):
                room.members[account] = "member"
            else:
                del room.members[account]
                gone.add(account)
        return frozenset(gone)

    def _leave_org(self, room: ModelRoom, org: str) -> frozenset[str]:
        if org not in room.orgs:
            return frozenset()
        room.orgs.discard(org)
        kept = room.individuals | {account for other in room.orgs for account in self._of(other)}
        gone = frozenset(room.members.keys() & self._of(org) - kept)
        for account in gone:
            del room.members[account]
        if not room.orgs:
            room.individuals.clear()
        return gone

    def _of(self, org: str) -> set[str]:
        return {account for account, orgs in self.people.items() if org in orgs and not is_bot(account)}

    def _channel(self, body: Body) -> ModelRoom:
        room = self.rooms.get(str(body["roomId"]))
        if room is None or room.site != self.site:
            raise RefusedError(*NO_ROOM)
        if room.kind != "channel":
            raise RefusedError(*NOT_A_CHANNEL)
        return room

    def _must_exist(self, accounts: Iterable[str], or_in: ModelRoom | None = None) -> None:
        known = self.people.keys() | (or_in.members.keys() if or_in else set())
        if not known >= set(accounts):
            raise RefusedError(*NO_USER)

    @staticmethod
    def _must_have_key(room: ModelRoom, stream_ms: int) -> None:
        """Rotate a channel that has lost its key, or has a foreign one, because a joiner has to be sent a key."""
        if room.kind == "channel" and not room.has_key:
            Model._rotate_key(room, stream_ms)

    @staticmethod
    def _rotate_key(room: ModelRoom, stream_ms: int) -> None:
        room.version = stream_ms // 1000 if room.version is None else room.version + 1
        room.has_key = True
