"""Errors: their texts name the room, the version and the cause."""

import pytest

from roomkeys import errors as codes
from roomkeys.client.errors import (
    ClientClosed,
    InvalidRequest,
    KeyMissing,
    KeyNotAvailable,
    KeyStoreFailed,
    KeyTimeout,
    NotRoomMember,
    RoomHasNoKey,
    ServiceUnavailable,
    TooManyRequests,
    missing,
)


def test_the_text_names_the_missing_key_and_the_cause() -> None:
    assert str(KeyNotAvailable("r1", 3)) == "room r1: no key 3: it has expired or is not in use yet"
    assert str(KeyTimeout("r1", None)) == "room r1: no key in use: nothing arrived before the deadline"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NotRoomMember, "not_room_member"),
        (KeyNotAvailable, "key_not_available"),
        (RoomHasNoKey, "room_has_no_key"),
        (TooManyRequests, "too_many_requests"),
        (ServiceUnavailable, "unavailable"),
        (KeyStoreFailed, "not_stored"),
        (InvalidRequest, "refused"),
        (KeyTimeout, "timeout"),
        (ClientClosed, "ended"),
    ],
)
def test_each_error_has_its_stable_reason(error: type[KeyMissing], reason: str) -> None:
    assert error("r1", 3).reason == reason


@pytest.mark.parametrize(
    ("code", "error", "retryable"),
    [
        (codes.FORBIDDEN, NotRoomMember, False),
        (codes.NOT_FOUND, KeyNotAvailable, True),
        (codes.TOO_MANY_REQUESTS, TooManyRequests, True),
        (codes.UNAVAILABLE, ServiceUnavailable, True),
        (codes.INTERNAL, ServiceUnavailable, True),
        (codes.BAD_REQUEST, InvalidRequest, False),
        ("some_future_code", InvalidRequest, False),
    ],
)
def test_each_code_of_the_service_has_its_error(code: str, error: type[KeyMissing], *, retryable: bool) -> None:
    found = missing("r1", 3, code)
    assert (type(found), found.room_id, found.version, found.retryable) == (error, "r1", 3, retryable)
