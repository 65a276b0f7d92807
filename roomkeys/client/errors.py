"""The errors of the client library.

    RoomKeysError
    ├── InvalidEnvelope           not `{version, nonce, ciphertext}`
    ├── DecryptionFailed          the key of that version does not open the message
    └── KeyMissing                room_id, version (None: the one in use), reason, retryable
        ├── NotRoomMember         `not_room_member`: the account is not a member, or the room does not exist
        ├── KeyNotAvailable       `key_not_available`: the version has expired, or is not in use yet
        ├── TooManyRequests       `too_many_requests`: the account exceeds the key service's rate limit
        ├── ServiceUnavailable    `unavailable`: the key service or its database does not answer
        ├── KeyStoreFailed        `not_stored`: the key arrived, but the program's own store failed
        ├── InvalidRequest        `refused`: the key service does not accept the request
        ├── KeyTimeout            `timeout`: no key and no reply arrived before the deadline
        └── ClientClosed          `ended`: the client was closed while a caller waited

`retryable` is False if asking again cannot help. No error contains or quotes a key.
"""

from typing import ClassVar, Final, Self

from roomkeys.errors import FORBIDDEN, INTERNAL, NOT_FOUND, TOO_MANY_REQUESTS, UNAVAILABLE


class RoomKeysError(Exception):
    """The base class of the errors that the client library raises."""


class InvalidEnvelope(RoomKeysError):
    """The message has the wrong shape; the text says what is wrong with it."""


class DecryptionFailed(RoomKeysError):
    """The message was not sealed with the key of the version that it names, or it was changed since."""

    def __init__(self, version: int) -> None:
        super().__init__(f"key {version} does not open this message")
        self.version = version


class KeyMissing(RoomKeysError):
    """A key is missing. `reason` is a stable word for the cause; `retryable`: asking again later may help."""

    reason: ClassVar[str]
    _text: ClassVar[str]

    def __init__(self, room_id: str, version: int | None, *, retryable: bool = True) -> None:
        which = "key in use" if version is None else f"key {version}"
        super().__init__(f"room {room_id}: no {which}: {self._text}")
        self.room_id = room_id
        self.version = version
        self.retryable = retryable

    def copy(self) -> Self:
        """Return an equal error for another caller: one error raised twice would mix up the tracebacks."""
        return type(self)(self.room_id, self.version, retryable=self.retryable)


class NotRoomMember(KeyMissing):
    """The account is not a member of the room, or the room does not exist."""

    reason = "not_room_member"
    _text = "this account is not a member of the room"


class KeyNotAvailable(KeyMissing):
    """The version has expired or is not in use yet, or the room has no key."""

    reason = "key_not_available"
    _text = "it has expired or is not in use yet"


class TooManyRequests(KeyMissing):
    """The account exceeds the key service's rate limit."""

    reason = "too_many_requests"
    _text = "this account sends too many requests"


class ServiceUnavailable(KeyMissing):
    """No key service answers for the site, or none that can reach its database."""

    reason = "unavailable"
    _text = "the key service does not answer"


class KeyStoreFailed(KeyMissing):
    """The key arrived, but the program's own store did not save it."""

    reason = "not_stored"
    _text = "the program's store did not save it"


class InvalidRequest(KeyMissing):
    """The key service does not accept the request, for example because the room id is not a token."""

    reason = "refused"
    _text = "the request is not valid"


class KeyTimeout(KeyMissing):
    """Neither the key nor a reply arrived before the deadline."""

    reason = "timeout"
    _text = "nothing arrived before the deadline"


class ClientClosed(KeyMissing):
    """The client was closed while the caller waited, or before."""

    reason = "ended"
    _text = "the client is closed"


_BY_CODE: Final[dict[str, type[KeyMissing]]] = {
    FORBIDDEN: NotRoomMember,
    NOT_FOUND: KeyNotAvailable,
    TOO_MANY_REQUESTS: TooManyRequests,
    UNAVAILABLE: ServiceUnavailable,
    INTERNAL: ServiceUnavailable,
}
_FINAL: Final = (NotRoomMember, InvalidRequest)


def missing(room_id: str, version: int | None, code: str) -> KeyMissing:
    """Return the error for an error code of the key service."""
    kind = _BY_CODE.get(code, InvalidRequest)
    return kind(room_id, version, retryable=not issubclass(kind, _FINAL))
