"""Users, rooms, and the memberships between them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from roomkeys.keys import KeyRecord, RoomKey
from roomkeys.tokens import is_bot

OWNER_ROLES: Final = ("owner",)
"""The roles of the account that creates a channel."""
MEMBER_ROLES: Final = ("member",)
"""The roles of every other member of a channel."""

UNSET_FLAGS: Final = ("hasMention", "alert", "muted", "favorite", "hasGroupMention", "hasUnread")
"""The flags that are false in the document and in the notice of a new membership. (docs/contract.md, section 5)"""


class Kind(StrEnum):
    """A room's type, spelled as in the documents."""

    CHANNEL = "channel"
    DM = "dm"
    BOT_DM = "botDM"


@dataclass(frozen=True, slots=True)
class User:
    """A person or bot, from the `users` collection. `orgs` are the ids of its section and department."""

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
        """Return `engName chineseName`, one of them if they are equal, or the account if both are empty."""
        names = dict.fromkeys(name for name in (self.eng_name.strip(), self.chinese_name.strip()) if name)
        return " ".join(names) or self.account


@dataclass(frozen=True, slots=True)
class Membership:
    """One account's membership of one room, as written to `subscriptions`. (docs/contract.md, section 5)

    `roles` is None in a dm. `joined_ms` and `history_from_ms` are epoch milliseconds. `title`, the room's name as
    this member sees it, is only sent. The outbox contains memberships: these names are names in the database.
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


@dataclass(frozen=True, slots=True)
class Member:
    """A membership that exists. Other systems may choose any type of `id`. These names are names in the outbox."""

    id: Any
    user_id: str
    account: str
    roles: tuple[str, ...] | None = MEMBER_ROLES


@dataclass(frozen=True, slots=True)
class Room:
    """A room as stored. `orgs` are ids, `size` counts people and bots; other services may use further kinds."""

    id: str
    name: str
    kind: str
    site: str
    orgs: frozenset[str] = frozenset()
    keys: KeyRecord = field(default_factory=KeyRecord)
    size: int = 0
    recounted: tuple[int, int] | None = None
    """The numbers of people and bots as counted again, if those of the document are no numbers."""


@dataclass(frozen=True, slots=True)
class RoomView:
    """What a member may know: the key in use, and unexpired `others`. A staged key only makes `rotating` true."""

    current: RoomKey | None = None
    others: tuple[RoomKey, ...] = ()
    users: int = 0
    apps: int = 0
    rotating: bool = False

    def key(self, version: int | None) -> RoomKey | None:
        """Return the key of this version, or the key in use for None; return None if it is not available."""
        if version is None:
            return self.current
        available = (self.current, *self.others)
        return next((key for key in available if key is not None and key.version == version), None)


RoomViews = Mapping[str, RoomView]
"""By room id, the rooms that an account is a member of. It gets no answer about any other room."""
