"""The subscriber's errors: each says which key is missing, and why.

    RoomKeysError
    ├── NotAnEnvelope         what is to be opened is no `{version, nonce, ciphertext}`
    ├── NotOpened             the key of that version does not open it
    └── KeyMissing            room_id, version (None: the one in use), reason, retryable
        ├── NotRoomMember     `not_room_member`: this account is no member of the room, or there is none
        ├── KeyNotAvailable   `key_not_available`: expired, or not in use yet
        ├── TooManyRequests   `too_many_requests`: this account asks too often
        ├── ServiceAway       `unavailable`: nobody answers, or not now
        ├── NotStored         `not_stored`: the key came, but the program's own store failed
        ├── NotAsked          `refused`: the service does not understand the question
        ├── NotInTime         `timeout`: nothing came before the deadline
        └── Ended             `ended`: the client was left meanwhile

`retryable` is False where asking again is of no use. No error holds or quotes a key.
"""

from typing import ClassVar, Final, Self

from roomkeys.errors import FORBIDDEN, INTERNAL, NOT_FOUND, TOO_MANY_REQUESTS, UNAVAILABLE


class RoomKeysError(Exception):
    """What the subscriber's library raises."""


class InvalidEnvelope(RoomKeysError):
    """What is to be opened has another shape; the message says what is wrong with it."""


class DecryptionFailed(RoomKeysError):
    """The message was sealed with another key than the one of the version that it names, or was changed."""

    def __init__(self, version: int) -> None:
        super().__init__(f"key {version} does not open this message")
        self.version = version


class KeyMissing(RoomKeysError):
    """A key that is missing, and why; `retryable`: it may be there when it is asked for again."""

    reason: ClassVar[str]
    _words: ClassVar[str]

    def __init__(self, room_id: str, version: int | None, *, retryable: bool = True) -> None:
        which = "key in use" if version is None else f"key {version}"
        super().__init__(f"room {room_id}: no {which}: {self._words}")
        self.room_id = room_id
        self.version = version
        self.retryable = retryable

    def copy(self) -> Self:
        """Return an equal error for somebody else to raise: one that is raised twice mixes up its traces."""
        return type(self)(self.room_id, self.version, retryable=self.retryable)


class NotRoomMember(KeyMissing):
    """This account is no member of the room, or there is no such room."""

    reason = "not_room_member"
    _words = "this account is no member of the room"


class KeyNotAvailable(KeyMissing):
    """The version has expired, or is not in use yet, or the room has no key."""

    reason = "key_not_available"
    _words = "it has expired or is not in use yet"


class TooManyRequests(KeyMissing):
    """This account asks too often."""

    reason = "too_many_requests"
    _words = "this account asks too often"


class ServiceUnavailable(KeyMissing):
    """Nobody answers for the site, or nobody who can reach the database."""

    reason = "unavailable"
    _words = "the key service does not answer now"


class KeyStoreFailed(KeyMissing):
    """The key came, but the program's own store did not take it."""

    reason = "not_stored"
    _words = "the store did not take it"


class InvalidRequest(KeyMissing):
    """The service does not understand the question: the room's id is none, say."""

    reason = "refused"
    _words = "the key service does not understand the question"


class KeyTimeout(KeyMissing):
    """Nothing came before the deadline, no answer either."""

    reason = "timeout"
    _words = "nothing came before the deadline"


class ClientClosed(KeyMissing):
    """The client was left while somebody waited."""

    reason = "ended"
    _words = "the client has ended"


_BY_CODE: Final[dict[str, type[KeyMissing]]] = {
    FORBIDDEN: NotRoomMember,
    NOT_FOUND: KeyNotAvailable,
    TOO_MANY_REQUESTS: TooManyRequests,
    UNAVAILABLE: ServiceUnavailable,
    INTERNAL: ServiceUnavailable,
}
_FINAL: Final = (NotRoomMember, InvalidRequest)


def missing(room_id: str, version: int | None, code: str) -> KeyMissing:
    """Return the error that a code of the service stands for."""
    kind = _BY_CODE.get(code, InvalidRequest)
    return kind(room_id, version, retryable=not issubclass(kind, _FINAL))
