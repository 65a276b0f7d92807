"""Errors, named after what happens next. (docs/design.md, "Blame")

    Exception
    ├── Rejection            the event can never succeed: dead letter and error result; of a request: error reply
    ├── TransientError       a server is in a bad condition: wait, take the lease again, retry; it costs no event
    │   └── DatabaseError    the server is the database
    │       ├── Refused      nothing was written: try one event at a time, and set aside the room of one that fails
    │       └── WriteConflict  another writer was first, nothing was written: retry after a short pause
    └── LeaseLost            another replica owns the partition: drop the batch

No message quotes more of an event's payload than an account that is a token, and none contains key material.
(docs/contract.md, section 3)
"""

from dataclasses import dataclass
from typing import ClassVar, Final

BAD_REQUEST: Final = "bad_request"
FORBIDDEN: Final = "forbidden"
NOT_FOUND: Final = "not_found"
CONFLICT: Final = "conflict"
TOO_MANY_REQUESTS: Final = "too_many_requests"
UNAVAILABLE: Final = "unavailable"
INTERNAL: Final = "internal"


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """Why an event can never succeed, or why a request is refused.

    `code` is one of the contract's error codes, `reason` a stable snake_case word, and `text` a sentence for
    people. (docs/contract.md, section 3)
    """

    code: str
    reason: str
    text: str


class Rejection(Exception):
    """The event can never succeed, or the request is refused; `info` says why."""

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(info.text)
        self.info = info


class TransientError(Exception):
    """A server is in a bad condition: away, slow, full, or it refuses. It lasts as long as it lasts.

    `cause` is the word by which the metrics count it.
    """

    cause: ClassVar[str] = "broker"


class DatabaseError(TransientError):
    """The database is in a bad condition. A transaction may or may not have been committed."""

    cause: ClassVar[str] = "database"


class Refused(DatabaseError):
    """The database refused a command, and nothing of the transaction was written.

    The refusal may have to do with an event or with the database; only an experiment shows which.
    """


class WriteConflict(DatabaseError):
    """The transaction lost against another writer, and nothing of it was written."""

    cause: ClassVar[str] = "conflict"


class LeaseLost(Exception):
    """Another replica owns the partition now, and continues where the cursor is."""


def invalid_event(text: str) -> Rejection:
    """Reject an event whose shape is wrong."""
    return Rejection(ErrorInfo(BAD_REQUEST, "invalid_event", text))


def invalid_account(text: str) -> Rejection:
    """Reject an event that names an account that is not a token."""
    return Rejection(ErrorInfo(BAD_REQUEST, "invalid_account", text))


def invalid_room(text: str) -> Rejection:
    """Reject an event whose room id is not a token."""
    return Rejection(ErrorInfo(BAD_REQUEST, "invalid_room", text))


def user_not_found(account: str) -> Rejection:
    """Reject an event because of an account, a token, that is neither a user nor a member."""
    return Rejection(ErrorInfo(NOT_FOUND, "user_not_found", f"account {account} is not in users"))


ROOM_NOT_FOUND: Final = ErrorInfo(NOT_FOUND, "room_not_found", "the room does not exist")
ROOM_EXISTS: Final = ErrorInfo(CONFLICT, "room_exists", "a room of another type or site has this id")
BOT_NOT_AVAILABLE: Final = ErrorInfo(NOT_FOUND, "bot_not_available", "the bot does not exist")
SELF_DM: Final = ErrorInfo(BAD_REQUEST, "self_dm", "a dm needs another account")
NON_CHANNEL_OPERATION: Final = ErrorInfo(
    BAD_REQUEST, "non_channel_operation", "only a channel's members and key can change"
)
INTERNAL_ERROR: Final = ErrorInfo(INTERNAL, "internal", "the event could not be processed")
"""The event kept failing alone, and each time a transaction without it was committed before and after it."""
