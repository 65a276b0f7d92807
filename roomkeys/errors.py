"""Errors, named after what happens next.

    Exception
    ├── Rejection      the event can never succeed: dead letter, error result, go on; a request: error reply
    ├── Unexpected     nobody knows whether it passes: try one event at a time, give up on the one that fails
    ├── Passing        the database or the broker is away: wait, take the lease anew, try again
    │   └── Conflict   the transaction lost against somebody else's write: try again at once
    └── LostLease      another replica owns the partition: drop the batch

Messages never quote an event's payload and never hold key material. (contract.md, section 3)
"""

from dataclasses import dataclass
from typing import Final

BAD_REQUEST: Final = "bad_request"
FORBIDDEN: Final = "forbidden"
NOT_FOUND: Final = "not_found"
CONFLICT: Final = "conflict"
TOO_MANY_REQUESTS: Final = "too_many_requests"
UNAVAILABLE: Final = "unavailable"
INTERNAL: Final = "internal"


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """Why an event can never succeed, or what a request is refused for.

    `code` is one of the contract's error codes, `reason` a stable snake_case word, `text` a sentence for
    people that quotes neither the payload nor a key.
    """

    code: str
    reason: str
    text: str


class Rejection(Exception):
    """An event that can never succeed, or a request that is refused, and why."""

    def __init__(self, fault: ErrorInfo) -> None:
        super().__init__(fault.text)
        self.fault = fault


class TransientError(Exception):
    """A cause that passes: the database or the broker is away, or slow, or electing."""


class Unexpected(Exception):
    """A failure of the database that is not known to pass; it names the kind of failure only."""


class WriteConflict(TransientError):
    """A transaction that lost against another writer; nothing of it was written."""


class LeaseLost(Exception):
    """The partition belongs to another replica by now; whatever was in hand is its business."""


def invalid_event(text: str) -> Rejection:
    """Reject an event whose shape is wrong."""
    return Rejection(ErrorInfo(BAD_REQUEST, "invalid_event", text))


def invalid_account(text: str) -> Rejection:
    """Reject an event that names an account or a room that is no token."""
    return Rejection(ErrorInfo(BAD_REQUEST, "invalid_account", text))


def room_not_found() -> Rejection:
    """Reject an event about a room that does not exist."""
    return Rejection(ErrorInfo(NOT_FOUND, "room_not_found", "the room does not exist"))


def room_exists() -> Rejection:
    """Reject the creation of a room whose id another kind of room or another site holds."""
    return Rejection(ErrorInfo(CONFLICT, "room_exists", "a room of another type or site has this id"))


def user_not_found() -> Rejection:
    """Reject an event whose requester, or one account that it names, is unknown."""
    return Rejection(ErrorInfo(NOT_FOUND, "user_not_found", "the requester or an account of the event is unknown"))


def bot_not_available() -> Rejection:
    """Reject a conversation with a bot that does not exist."""
    return Rejection(ErrorInfo(NOT_FOUND, "bot_not_available", "the bot does not exist"))


def self_dm() -> Rejection:
    """Reject a dm with oneself."""
    return Rejection(ErrorInfo(BAD_REQUEST, "self_dm", "a dm needs somebody else"))


def non_channel_operation() -> Rejection:
    """Reject a change of members or key of a room that is not a channel."""
    return Rejection(
        ErrorInfo(BAD_REQUEST, "non_channel_operation", "only a channel's members and key can change")
    )


INTERNAL_FAULT: Final = ErrorInfo(INTERNAL, "internal", "the event could not be processed")
"""An event that failed alone for a cause that nobody here knows to pass."""
