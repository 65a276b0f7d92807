"""Subjects and stream names, as docs/contract.md spells them. Callers check tokens first (`roomkeys.tokens`)."""

from enum import StrEnum
from typing import Final

KEY_PREFIX: Final = "chat.user."
KEY_SUFFIX: Final = ".event.room.key"


class Operation(StrEnum):
    """What an event asks for, spelled as results spell it."""

    CREATE = "room.create"
    ADD = "room.member.add"
    REMOVE = "room.member.remove"
    REMOVE_ORG = "room.member.remove_org"
    ROTATE = "room.key.rotate"


_SUFFIXES: Final = {
    ".create": Operation.CREATE,
    ".member.add": Operation.ADD,
    ".member.remove": Operation.REMOVE,
    ".key.rotate": Operation.ROTATE,
}


def operation_of(subject: str) -> Operation | None:
    """Return the operation that an event's subject names, or None for the events of other services."""
    return next((operation for suffix, operation in _SUFFIXES.items() if subject.endswith(suffix)), None)


def events_stream(site: str) -> str:
    """Name the stream of a site's membership events."""
    return f"ROOMS_{site}"


def events_subjects(site: str) -> str:
    """Name the subjects of all membership events of a site, as a wildcard."""
    return f"chat.room.canonical.{site}.>"


def event_subject(site: str, suffix: str) -> str:
    """Name the subject on which a producer publishes an operation, such as `member.add`."""
    return f"chat.room.canonical.{site}.{suffix}"


def dead_letter_stream(site: str) -> str:
    """Name the stream of a site's dead letters."""
    return f"ROOMS_DEADLETTER_{site}"


def dead_letter_subject(site: str) -> str:
    """Name the subject of a site's dead letters."""
    return f"chat.room.deadletter.{site}"


def room_key(account: str) -> str:
    """Name the subject on which an account receives room keys."""
    return f"{KEY_PREFIX}{account}{KEY_SUFFIX}"


def subscription_update(account: str) -> str:
    """Name the subject on which an account learns that it joined or left a room."""
    return f"chat.user.{account}.event.subscription.update"


def room_member_event(room_id: str) -> str:
    """Name the subject on which a room's member list is followed."""
    return f"chat.room.{room_id}.event.member"


def response(requester: str, request_id: str) -> str:
    """Name the subject on which a requester waits for its result."""
    return f"chat.user.{requester}.response.{request_id}"


def key_get(site: str, account: str = "*", room_id: str = "*") -> str:
    """Name the subject on which an account asks for one room's key. The defaults are wildcards for a service."""
    return f"chat.user.{account}.request.room.{room_id}.{site}.key.get"


def keys_batch(site: str, account: str = "*") -> str:
    """Name the subject on which an account asks for several rooms' keys."""
    return f"chat.user.{account}.request.rooms.{site}.keys.batch"


def keys_sync(site: str, account: str = "*") -> str:
    """Name the subject on which an account asks for every current key that it does not have."""
    return f"chat.user.{account}.request.rooms.{site}.keys.sync"


def status_batch(site: str, account: str = "*") -> str:
    """Name the subject on which an account asks for the status of several rooms."""
    return f"chat.user.{account}.request.rooms.{site}.status.batch"
