"""The errors of the client library. No error contains or quotes a key."""

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
    """A key is missing: `version`, or with None the one in use. `retryable`: asking again may help."""

    reason: ClassVar[str]
    """A stable word for the cause."""
    _text: ClassVar[str]

    def __init_subclass__(cls, *, reason: str, text: str) -> None:
        cls.reason, cls._text = reason, text

    def __init__(self, room_id: str, version: int | None, *, retryable: bool = True) -> None:
        which = "key in use" if version is None else f"key {version}"
        super().__init__(f"room {room_id}: no {which}: {self._text}")
        self.room_id = room_id
        self.version = version
        self.retryable = retryable

    def copy(self) -> Self:
        """Return an equal error for another caller: one error raised twice would mix up the tracebacks."""
        return type(self)(self.room_id, self.version, retryable=self.retryable)


class NotRoomMember(KeyMissing, reason="not_room_member", text="this account is not a member of the room"):
    """The account is not a member of the room, or the room does not exist."""


class KeyNotAvailable(KeyMissing, reason="key_not_available", text="it has expired or is not in use yet"):
    """The version has expired or is not in use yet, or the room has no key yet."""


class RoomHasNoKey(KeyNotAvailable, reason="room_has_no_key", text="a dm never has one"):
    """The room is a dm, or a channel of two that another program made and that the worker has not changed yet."""


class TooManyRequests(KeyMissing, reason="too_many_requests", text="this account sends too many requests"):
    """The account exceeds the key service's rate limit."""


class ServiceUnavailable(KeyMissing, reason="unavailable", text="the key service does not answer"):
    """No key service answers for the site, or none that can reach its database."""


class KeyStoreFailed(KeyMissing, reason="not_stored", text="the program's store did not save it"):
    """The key arrived, but the program's own store did not save it."""


class InvalidRequest(KeyMissing, reason="refused", text="the request is not valid"):
    """The key service does not accept the request, for example because the room id is not a token."""


class KeyTimeout(KeyMissing, reason="timeout", text="nothing arrived before the deadline"):
    """Neither the key nor a reply arrived before the deadline."""


class ClientClosed(KeyMissing, reason="ended", text="the client is closed"):
    """The client was closed while the caller waited, or before."""


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
