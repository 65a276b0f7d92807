"""Rooms, memberships and membership reasons as documents. (docs/contract.md, section 5)

Other systems write to these collections too, so the functions that read accept any type in any field.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain, product
from typing import Any, Final

from pymongo import UpdateOne
from uuid_utils import uuid7

from roomkeys.decisions.decision import INDIVIDUAL, ORG, MembershipReason, RoomCreation
from roomkeys.keys import EXACT_INTEGERS, KEY_BYTES, UNUSED, KeyRecord, RoomKey
from roomkeys.membership import UNSET_FLAGS, Kind, Member, Membership, Room, User
from roomkeys.tokens import is_bot
from store.database import Document
from store.transaction import update_one

USED_IDS: Final = "room_worker_rooms"
"""The collection with the ids of all channels that ever had a key: one document for each."""

COUNTS: Final = ("userCount", "appCount")
"""The fields of a room with its numbers of people and of bots."""

_KEYS: Final = ("encKey.priv", "encKey.ver")
_ROTATION: Final = ("keyRotation.high", "keyRotation.settled", "keyRotation.current", "keyRotation.staged")
_USER_TEXTS: Final = ("engName", "chineseName", "sectId", "deptId")
_TYPES: Final = {"rotation": {"$type": "$keyRotation"}, "past": {"$type": "$keyRotation.past"}}
KEYS_PROJECTION: Final = {**dict.fromkeys((*_KEYS, *_ROTATION), 1), "types": _TYPES}
"""The fields that a `KeyRecord` is read from; without the replaced keys, which can be many."""

MAX_STORED_VERSION: Final = EXACT_INTEGERS // 2
"""Versions from here on are no versions: nobody can have counted so far, and the worker could not count on."""


def new_id() -> str:
    """Return a UUIDv7 as 32 lowercase hexadecimal digits: a new `_id` of `subscriptions` or `room_members`."""
    return uuid7().hex


def date(epoch_ms: int) -> datetime:
    """Return epoch milliseconds as a BSON date."""
    return datetime.fromtimestamp(epoch_ms // 1000, UTC).replace(microsecond=epoch_ms % 1000 * 1000)


def key_document(key: RoomKey) -> Document:
    """Return a key as `{ver, priv}`."""
    return {"ver": key.version, "priv": key.secret}


def room_key(document: object) -> RoomKey | None:
    """Return the key in `{ver, priv}`, or None if there is no usable one."""
    version = key_version(document)
    secret = document.get("priv") if isinstance(document, dict) else None
    if version is None or not isinstance(secret, bytes) or len(secret) != KEY_BYTES:
        return None
    return RoomKey(version, secret)


def key_version(document: object) -> int | None:
    """Return the version in `{ver, …}`, even if the key itself is not usable. Other systems may store a double."""
    return _whole(document.get("ver"), MAX_STORED_VERSION) if isinstance(document, dict) else None


def _whole(value: object, bound: int) -> int | None:
    """Return a whole number from 0 up to, not including, the bound; None for anything else."""
    if type(value) is int:  # nearly always: this is asked seven times for each room
        return value if 0 <= value < bound else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < bound:
        return None
    return int(value) if value == int(value) else None


def key_rotation(document: Document) -> Document:
    """Return `keyRotation` of a room's document, or an empty one if it has none."""
    rotation = document.get("keyRotation")
    return rotation if isinstance(rotation, dict) else {}


def key_record(document: Document) -> KeyRecord:
    """Return what a room's document says about its keys.

    `encKey` is the current key only while it is the key that this worker settled last. A foreign `encKey`, which
    another program wrote, is one of the replaced keys if its version is above all of this worker's, or was so when
    the staged key was made. Otherwise it would be a second key with a version that this worker has used.
    """
    rotation = key_rotation(document)
    in_use, ours = room_key(document.get("encKey")), room_key(rotation.get("current"))
    high = key_version({"ver": rotation.get("high")})
    staged = room_key(rotation.get("staged"))
    replaced = [ours] if ours else []
    if in_use and in_use != ours:
        was_above = staged is not None and (ours.version if ours else UNUSED) < in_use.version < staged.version
        if high is None or in_use.version > high or was_above:
            replaced.append(in_use)
    settled = key_version({"ver": rotation.get("settled")})
    held = (key_version(document.get("encKey")), *(key.version for key in (staged, ours) if key))
    versions = [version for version in (high, settled, *held) if version is not None]
    types = document.get("types", {})
    rotation_type = types.get("rotation", "missing")
    return KeyRecord(
        high=high,
        settled=UNUSED if settled is None else settled,
        current=in_use if in_use == ours else None,
        staged=staged,
        replaced=tuple(replaced),
        highest_seen=max(versions, default=None),
        in_use=key_version(document.get("encKey")),
        high_lost=high is None and rotation_type != "missing",
        rotation_lost=rotation_type not in {"object", "missing"},
        past_lost=types.get("past", "missing") not in {"array", "missing"},
    )


def room(document: Document, orgs: frozenset[str]) -> Room:
    """Return a room; `orgs` are the ids of the orgs that are its members."""
    name, kind, site = (text(document.get(field)) for field in ("name", "type", "siteId"))
    size = sum(count(document.get(field)) or 0 for field in COUNTS)
    return Room(document["_id"], name, kind, site, orgs, key_record(document), size)


def count(value: object) -> int | None:
    """Return a stored number of members, or None if the value is no such number."""
    return _whole(value, EXACT_INTEGERS)


def text(value: object) -> str:
    """Return a text, or an empty one for a value of any other type."""
    return value if type(value) is str else ""  # JavaScript code is a text to the driver, but no text in MongoDB


def value_at(document: Document, field: str) -> object:
    """Return the value at a dotted field, or None if there is none."""
    value: Any = document
    for name in field.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def user(document: Document) -> User | None:
    """Return a user, or None if the document has no account."""
    account = document.get("account")
    if type(account) is not str:
        return None
    eng_name, chinese_name, *orgs = (text(document.get(name)) for name in _USER_TEXTS)
    return User(_id_text(document["_id"]), account, eng_name, chinese_name, frozenset(filter(None, orgs)))


def membership_key(document: Document) -> tuple[str, str] | None:
    """Return the room and the account of a document of `subscriptions`, or None if it is nobody's.

    MongoDB also finds arrays that contain the room or the account. Such documents are nobody's.
    """
    room_id, who = document.get("roomId"), document.get("u")
    account = who.get("account") if isinstance(who, dict) else None
    return (room_id, account) if type(room_id) is str and type(account) is str else None


def only_texts(*fields: str) -> Document:
    """Return the filter that leaves out documents in which a field is not a text: a filter also finds arrays.

    No index covers it, so it is only for reads that have met such a document.
    """
    return {"$expr": {"$and": [{"$eq": [{"$type": f"${field}"}, "string"]} for field in fields]}}


def obstructed(document: Document) -> Iterator[tuple[str, str]]:
    """Yield the rooms and accounts whose place in the unique index a document that is nobody's has."""
    who = document.get("u")
    accounts = [one.get("account") for one in (who if isinstance(who, list) else [who]) if isinstance(one, dict)]
    return product(_texts(document.get("roomId")), chain.from_iterable(map(_texts, accounts)))


def member(document: Document) -> Member | None:
    """Return what a decision needs to know about a membership, or None if the document is nobody's."""
    key, roles = membership_key(document), document.get("roles")
    if key is None:
        return None
    known = tuple(role for role in roles if isinstance(role, str)) if isinstance(roles, list) else None
    return Member(document["_id"], _id_text(document["u"].get("_id")), key[1], known)


def reason(document: Document) -> MembershipReason | None:
    """Return a membership reason as stored, or None if the document is nobody's. Old ones have no account."""
    row = document.get("member")
    if not isinstance(row, dict) or not text(document.get("rid")):
        return None
    type_, id_, account = row.get("type"), text(row.get("id")), row.get("account")
    if type_ == ORG and id_:
        return MembershipReason(ORG, id_, None, 0)
    if type_ == INDIVIDUAL and (text(account) or (account is None and id_)):
        return MembershipReason(INDIVIDUAL, id_, account, 0)
    return None


def app(document: Document) -> tuple[str, str] | None:
    """Return the account of a bot and its name, or None if the document has none."""
    assistant, name = document.get("assistant"), document.get("name")
    account = text(assistant.get("name")) if isinstance(assistant, dict) else ""
    return (account, str(name)) if account and name else None


def _texts(value: object) -> list[str]:
    return [item for item in (value if isinstance(value, list) else [value]) if type(item) is str]


def _id_text(value: object) -> str:
    """Return an id as a text. Other programs also use object ids and numbers."""
    return "" if value is None or isinstance(value, list | dict) else str(value)


def room_document(room: Room, creation: RoomCreation, users: int, apps: int) -> Document:
    """Return the document of a new room with these counts of members. Its `encKey` comes with the first settle."""
    created = date(creation.at_ms)
    document: Document = {"_id": room.id, "name": room.name, "type": str(room.kind), "siteId": room.site}
    document |= {"userCount": users, "appCount": apps, "lastMsgId": "", "createdAt": created, "updatedAt": created}
    if room.kind != Kind.CHANNEL:
        document["uids"] = [user_id for user_id, _ in creation.participants]
        document["accounts"] = [account for _, account in creation.participants]
    return document


def membership_document(membership: Membership) -> Document:
    """Return the document of a new membership in `subscriptions`."""
    document: Document = {
        "_id": membership.id,
        "u": {"_id": membership.user_id, "account": membership.account, "isBot": is_bot(membership.account)},
        "roomId": membership.room_id,
        "siteId": membership.site,
        "roles": None if membership.roles is None else list(membership.roles),
        "name": membership.name,
        "roomType": str(membership.kind),
        "joinedAt": date(membership.joined_ms),
        **dict.fromkeys(UNSET_FLAGS, False),
    }
    if membership.subscribed:
        document["isSubscribed"] = True
    if membership.history_from_ms is not None:
        document["historySharedSince"] = date(membership.history_from_ms)
    return document


def reason_upsert(room_id: str, reason: MembershipReason) -> UpdateOne:
    """Return the write of a new document of `room_members`.

    It takes the place of a document that another program left for the same room, type and id, of whatever shape.
    """
    row = {"id": reason.id, "type": reason.type, **({} if reason.account is None else {"account": reason.account})}
    which = {"rid": room_id, "member.type": reason.type, "member.id": reason.id}
    fields = {"_id": new_id(), "ts": date(reason.at_ms)}
    return update_one(which, {"$set": {"rid": room_id, "member": row}, "$setOnInsert": fields}, upsert=True)
