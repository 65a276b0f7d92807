"""Errors, named after what happens next.

    Exception
    ├── Rejection      the event can never succeed: dead letter, error result, go on
    ├── Passing        the database or the broker is away: wait, take the lease anew, try again
    │   └── Conflict   the transaction lost against somebody else's write: try again at once
    └── LostLease      another replica owns the partition: drop the batch

Messages never quote an event's payload and never hold key material. (contract.md, section 3)
"""

from typing import Final

BAD_REQUEST: Final = "bad_request"
NOT_FOUND: Final = "not_found"
CONFLICT: Final = "conflict"
INTERNAL: Final = "internal"


class Rejection(Exception):
    """An event that can never succeed.

    `code` is one of the contract's error codes, `reason` a stable snake_case word, `text` a sentence for
    people that names neither the payload nor a key.
    """

    def __init__(self, code: str, reason: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.reason = reason
        self.text = text

    def __eq__(self, other: object) -> bool:
        """Compare by value, so that outcomes can be compared."""
        return isinstance(other, Rejection) and self._value() == other._value()

    def __hash__(self) -> int:
        return hash(self._value())

    def _value(self) -> tuple[str, str, str]:
        return self.code, self.reason, self.text


class Passing(Exception):
    """A cause that passes: the database or the broker is away, or slow, or electing."""


class Conflict(Passing):
    """A transaction that lost against another writer; nothing of it was written."""


class LostLease(Exception):
    """The partition belongs to another replica by now; whatever was in hand is its business."""


def invalid_event(text: str) -> Rejection:
    """Reject an event whose shape is wrong."""
    return Rejection(BAD_REQUEST, "invalid_event", text)


def invalid_account(text: str) -> Rejection:
    """Reject an event that names an account or a room that is no token."""
    return Rejection(BAD_REQUEST, "invalid_account", text)


def room_not_found() -> Rejection:
    """Reject an event about a room that does not exist."""
    return Rejection(NOT_FOUND, "room_not_found", "the room does not exist")


def room_exists() -> Rejection:
    """Reject the creation of a room whose id another kind of room or another site holds."""
    return Rejection(CONFLICT, "room_exists", "a room of another type or site has this id")


def user_not_found() -> Rejection:
    """Reject an event whose requester, or one account that it names, is unknown."""
    return Rejection(NOT_FOUND, "user_not_found", "the requester or an account of the event is unknown")


def bot_not_available() -> Rejection:
    """Reject a conversation with a bot that does not exist."""
    return Rejection(NOT_FOUND, "bot_not_available", "the bot does not exist")


def self_dm() -> Rejection:
    """Reject a dm with oneself."""
    return Rejection(BAD_REQUEST, "self_dm", "a dm needs somebody else")


def non_channel_operation() -> Rejection:
    """Reject a change of members or key of a room that is not a channel."""
    return Rejection(BAD_REQUEST, "non_channel_operation", "only a channel's members and key can change")


def internal() -> Rejection:
    """Reject an event that failed alone for a cause nobody here knows to pass."""
    return Rejection(INTERNAL, "internal", "the event could not be processed")
