"""Who is who: users, rooms, and the memberships between them, as far as a batch of events needs them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from roomkeys.keys import KeyRecord, RoomKey
from roomkeys.tokens import is_bot

OWNER: Final = ("owner",)

MEMBER: Final = ("member",)

FLAGS: Final = ("hasMention", "alert", "muted", "favorite", "hasGroupMention", "hasUnread")
"""What a new membership has none of, in its document and in its notice."""


class Kind(StrEnum):
    """A room's type, spelled as in the documents."""

    CHANNEL = "channel"
    DM = "dm"
    BOT_DM = "botDM"


@dataclass(frozen=True, slots=True)
class User:
    """A person or bot as the `users` collection knows it; `orgs` are its section and department."""

    id: str
    account: str
    eng_name: str = ""
    chinese_name: str = ""
    orgs: frozenset[str] = frozenset()

    @property
    def is_bot(self) -> bool:
        """Tell whether the account is a bot's."""
        return is_bot(self.account)

    @property
    def display_name(self) -> str:
        """Return `engName chineseName`, one of them if they are equal, else the account."""
        names = dict.fromkeys(name for name in (self.eng_name.strip(), self.chinese_name.strip()) if name)
        return " ".join(names) or self.account


@dataclass(frozen=True, slots=True)
class Membership:
    """One account's membership of one room: a `subscriptions` document.

    `roles` is None in a dm. Times are epoch milliseconds. `title` is the room's name as this member sees
    it; it is not stored.
    """

    id: str
    user_id: str
    account: str
    room_id: str
    site: str
    roles: tuple[str, ...] | None
    name: str
    kind: str
    joined_ms: int
    subscribed: bool = False
    history_from_ms: int | None = None
    title: str = ""

    @property
    def is_bot(self) -> bool:
        """Tell whether the member is a bot."""
        return is_bot(self.account)


@dataclass(frozen=True, slots=True)
class Member:
    """What a decision needs to know of a membership that exists already.

    `id` is the document's `_id` as it is stored: other systems make other ones than ours.
    """

    id: Any
    user_id: str
    account: str
    roles: tuple[str, ...] | None = MEMBER


@dataclass(frozen=True, slots=True)
class Room:
    """A room as stored. `kind` may be one that only other services know; `orgs` are its org rows.

    `size` is how many members it counts, people and bots.
    """

    id: str
    name: str
    kind: str
    site: str
    orgs: frozenset[str] = frozenset()
    keys: KeyRecord = field(default_factory=KeyRecord)
    size: int = 0


@dataclass(frozen=True, slots=True)
class RoomView:
    """What a member may know of a room.

    `current` is the key in use, `others` those of other versions that were asked for and may still be fetched.
    A staged key is none of them: it shows as `rotating` only.
    """

    current: RoomKey | None = None
    others: tuple[RoomKey, ...] = ()
    users: int = 0
    apps: int = 0
    rotating: bool = False

    def key(self, version: int | None) -> RoomKey | None:
        """Return the key of this version, or the one in use; None: it is not to be had."""
        if version is None:
            return self.current
        known = (self.current, *self.others)
        return next((key for key in known if key is not None and key.version == version), None)


RoomViews = Mapping[str, RoomView]
"""The rooms that an account is a member of, by id: whoever is not in here is told nothing."""
