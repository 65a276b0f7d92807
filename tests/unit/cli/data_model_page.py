"""The reference page of the collections: rights and indexes are read from the code, and fields are compared with it."""

from itertools import groupby
from typing import Final, NamedTuple

from store.setup.indexes import INDEXES, Index
from store.setup.permissions import READS_AND_WRITES


class Field(NamedTuple):
    """A field of a collection: its type, who writes it, and its meaning."""

    name: str
    type: str
    writer: str
    meaning: str


_US: Final = "worker"
_OTHERS: Final = "your platform"
_BOTH: Final = "worker, other services"

FIELDS: Final[dict[str, tuple[Field, ...]]] = {
    "users": (
        Field("_id", "any; read as text", _OTHERS, "Becomes `u._id` of memberships and `userId` of notices."),
        Field("account", "string", _OTHERS, "A token, or a bot's account. Documents without it are ignored."),
        Field("engName", "string", _OTHERS, "Optional. Part of the name of a dm."),
        Field("chineseName", "string", _OTHERS, "Optional. Part of the name of a dm."),
        Field("sectId", "string", _OTHERS, "Optional. An org that the user belongs to."),
        Field("deptId", "string", _OTHERS, "Optional. Another org that the user belongs to."),
    ),
    "apps": (
        Field("assistant.name", "string", _OTHERS, "The account of a bot."),
        Field("name", "string", _OTHERS, "The bot's name, for the notices of a room with it."),
    ),
    "rooms": (
        Field("_id", "string", _US, "The room id, a token."),
        Field("name", "string", _US, "Empty in a dm."),
        Field("type", "string", _US, "`channel`, `dm` or `botDM`. Only a channel has keys."),
        Field("siteId", "string", _US, "The site that created the room. Another site leaves it alone."),
        Field("userCount", "int", _US, "The number of people in the room."),
        Field("appCount", "int", _US, "The number of bots in the room."),
        Field("lastMsgId", "string", _BOTH, "Empty in a new room."),
        Field("createdAt", "date", _US, "The `timestamp` of the create."),
        Field("updatedAt", "date", _BOTH, "When members or keys changed last."),
        Field("uids", "array of strings", _US, "Only in a dm: the users' ids, sorted."),
        Field("accounts", "array of strings", _US, "Only in a dm: their accounts, in the order of `uids`."),
        Field("encKey.priv", "binary, 32 bytes", _US, "The key that seals messages now. A dm never has `encKey`."),
        Field("encKey.ver", "int", _US, "Its version."),
        Field("encKey.prevPriv", "binary, 32 bytes", _US, "The key before it."),
        Field("encKey.prevVer", "int", _US, "Its version."),
        Field("encKey.prevExpiresAt", "date", _US, "Until when members may ask for it."),
        Field("keyRotation", "document", _US, "Private: may change in any version."),
    ),
    "subscriptions": (
        Field("_id", "string", _US, "A UUIDv7 as 32 hexadecimal digits."),
        Field("u._id", "string", _US, "The user's `_id`."),
        Field("u.account", "string", _US, "The account."),
        Field("u.isBot", "bool", _US, "Whether the account ends in `.bot` or begins with `p_`."),
        Field("roomId", "string", _US, "The room."),
        Field("siteId", "string", _US, "The room's site."),
        Field("roles", "array or null", _US, 'In a channel `["owner"]` or `["member"]`, otherwise null.'),
        Field("name", "string", _US, "The channel's name, or the account of the other user of a dm."),
        Field("roomType", "string", _US, "As `rooms.type`."),
        Field("isSubscribed", "bool", _US, "Only for the person in a room with a bot: true."),
        Field("historySharedSince", "date", _US, "Only of a member that was added without history."),
        Field("joinedAt", "date", _US, "The `timestamp` of the event."),
        *(
            Field(name, "bool", _BOTH, "False in a new membership.")
            for name in ("hasMention", "alert", "muted", "favorite", "hasGroupMention", "hasUnread")
        ),
    ),
    "room_members": (
        Field("_id", "string", _US, "A UUIDv7 as 32 hexadecimal digits."),
        Field("rid", "string", _US, "The room."),
        Field("ts", "date", _US, "The `timestamp` of the event."),
        Field("member.type", "string", _US, "`individual` or `org`."),
        Field("member.id", "string", _US, "The user's `_id`, or the id of the org."),
        Field("member.account", "string", _US, "The account, in an individual row."),
    ),
}
"""The public collections. (docs/contract.md, section 5)"""

_TEXTS: Final = {
    "users": """
**Accounts must be in `users` before an event names them**: an unknown one fails the whole event with `user_not_found`.
The worker reads `users` and never writes it. Only `_id` and `account` are needed; your platform may store more.

```
{ _id: "u-alice", account: "alice", engName: "Alice", deptId: "sales" }
```

An org has no document: it is every user whose `sectId` or `deptId` is its id, except bots, at the time of the event. A
user who joins the org later is not added to the org's rooms by itself: publish `member.add` with the org again.
""",
    "apps": """
Only a room with a bot needs it, for the bot's name; without a document, the name is the bot's account. The worker
reads `apps` and never writes it.
""",
    "rooms": """
Services that seal messages read `encKey`, and nothing else of the keys: see
[seal in a service](../producer.md#seal-in-a-service). A room gets `encKey` only after its first key has been sent to
all members. If another program changes or deletes `encKey`, the room gets a new key with its next event.

The worker adds rooms and changes them; it never deletes one.
""",
    "subscriptions": """
A membership: one document per room and account. **An account that has one may have the room's keys.** Other services
may set the flags. They must not add or delete memberships: nobody would be sent a key, and no key would rotate.
""",
    "room_members": """
Why an account is a member: a row for each org, and a row for each account that was named itself. It is empty for a
room without orgs. A member leaves when its last reason goes.
""",
}

_PRIVATE: Final = """
## Private collections

`room_worker_sites`, `room_worker_cursors`, `room_worker_replicas`, `room_worker_outbox` and `room_worker_rooms` belong
to the worker. Their fields may change in any version. They must be kept and backed up together with the others:
without them, the worker would apply the stream again. [design.md](../design.md#the-loop) says what they are for.

| collection | one document for each | grows with |
|---|---|---|
| `room_worker_sites` | site: its number of partitions, and where its first start began | sites |
| `room_worker_cursors` | partition: the position in the stream, the owner and its epoch | partitions |
| `room_worker_replicas` | living replica: its last heartbeat | replicas |
| `room_worker_rooms` | channel that ever had a key: its id | channels, also deleted ones |
| `room_worker_outbox` | unfinished batch and room; event that waits | unfinished work: empty when idle |

`room_worker_outbox` has no key bytes. Keys are in `rooms.encKey` and `rooms.keyRotation` only.
"""

_RIGHTS: Final = """
## Rights

The role `readWrite` on the database is enough. A user with fewer rights needs these actions, and those that create
missing collections and indexes (`createCollection`, `listCollections`, `createIndex`, `listIndexes`), and
`killSessions` for its own sessions. `room-worker check` names each one that is missing.
"""

_INDEXES: Final = """
## Indexes

The worker creates what is missing when it starts. An index that serves as well is accepted under any name. If
duplicates prevent a unique index, `room-worker check` names one of them.
"""

_INTRODUCTION: Final = """
Every collection in `MONGO_DB` that the worker reads or writes. [contract.md](../contract.md), section 5, is the exact
definition of the documents that the worker writes.

**Documents that another program left in another shape** stop nothing. The worker ignores memberships and reasons whose
account or room is not a string, and users without an account. What it needs and cannot read, such as counts or
`keyRotation`, it writes again as a whole.
"""


def data_model_page() -> str:
    """Return the page."""
    parts = [
        "# Data model",
        "Generated by `make reference`. Do not edit: a test compares it with the code.",
        _INTRODUCTION.strip(),
    ]
    for collection, fields in FIELDS.items():
        parts += [f"## `{collection}`", _TEXTS[collection].strip(), _fields(fields)]
    parts += [_PRIVATE.strip(), _RIGHTS.strip(), _rights(), _INDEXES.strip(), _indexes()]
    return "\n\n".join(parts) + "\n"


def _fields(fields: tuple[Field, ...]) -> str:
    rows = (f"| `{field.name}` | {field.type} | {field.writer} | {field.meaning} |" for field in fields)
    return "\n".join(("| field | type | written by | meaning |", "|---|---|---|---|", *rows))


def _rights() -> str:
    rows = (f"| `{name}` | {', '.join(actions)} |" for name, actions in READS_AND_WRITES.items())
    return "\n".join(("| collection | actions |", "|---|---|", *rows))


def _indexes() -> str:
    groups = groupby(INDEXES, lambda index: index.collection)
    rows = (f"| `{name}` | {', '.join(map(_index, indexes))} |" for name, indexes in groups)
    return "\n".join(("| collection | indexes, all ascending |", "|---|---|", *rows))


def _index(index: Index) -> str:
    return f"`({', '.join(index.fields)})`{' unique' if index.unique else ''}"
