"""The client library: errors name the missing key and the cause, and show no key bytes."""

import logging
from base64 import b64encode
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client

from roomkeys import subjects
from roomkeys.client import RoomKey, RoomKeys
from roomkeys.client.errors import (
    InvalidRequest,
    KeyMissing,
    KeyNotAvailable,
    KeyTimeout,
    NotRoomMember,
    ServiceUnavailable,
    TooManyRequests,
)
from roomkeys.messages.room_key import RoomKeyEvent, marshal
from tests.harness.key_service import Asking, room, service
from tests.harness.polling import PATIENCE, until
from tests.harness.site import Rig
from tests.harness.subscribers import key, send


@pytest.fixture
async def asking(site_rig: Rig) -> AsyncIterator[Asking]:
    async with service(site_rig) as made:
        yield made


async def test_each_error_names_the_missing_key_and_the_reason(asking: Asking) -> None:
    await asking.rooms(room("r1", 7, expired=[5]), {"_id": "bare"})
    async with RoomKeys(asking.client, "bob", asking.site) as keys:
        for room_id, version, deadline, error, reason in (
            ("r1", 5, PATIENCE, KeyNotAvailable, "key_not_available"),
            ("r1", 8, 0.5, KeyNotAvailable, "key_not_available"),
            ("bare", None, 0.5, KeyNotAvailable, "key_not_available"),
            ("nowhere", 0, PATIENCE, NotRoomMember, "not_room_member"),
            ("a.b", 0, PATIENCE, InvalidRequest, "refused"),
            ("r1", 2**60, PATIENCE, InvalidRequest, "refused"),
            ("r1", 6, 0, KeyTimeout, "timeout"),
        ):
            expected: type[KeyMissing] = error
            with pytest.raises(expected) as raised:
                await keys.key(room_id, version, deadline=deadline)
            assert (raised.value.room_id, raised.value.version, raised.value.reason) == (room_id, version, reason)


async def test_without_a_key_service_only_sent_keys_are_available(nc: Client, site: str) -> None:
    async with RoomKeys(nc, "bob", site) as keys:
        await nc.publish(subjects.room_key("bob"), marshal(RoomKeyEvent("r1", key("r1", 1)), 5))
        assert await keys.key("r1", 1, deadline=PATIENCE) == key("r1", 1)
        with pytest.raises(ServiceUnavailable) as error:
            await keys.key("r1", 2, deadline=0.3)
    assert error.value.retryable


async def test_an_account_above_the_rate_limit_is_refused_and_served_later(site_rig: Rig) -> None:
    site_rig.limit(requests_per_s=0.5, requests_burst=2)
    async with service(site_rig) as asking:
        await asking.rooms(room("r1", 7, past=[6]))
        async with RoomKeys(asking.client, "bob", asking.site) as keys:  # entering takes its two requests
            with pytest.raises(TooManyRequests):
                await keys.key("r1", 6, deadline=0.1)
            assert await keys.key("r1", 6, deadline=PATIENCE) == key("r1", 6)


async def test_logs_and_repr_show_no_key_bytes(asking: Asking, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "roomkeys")
    await asking.rooms(room("r1", 7))
    other = RoomKey(7, b"?" * 32)
    async with RoomKeys(asking.client, "bob", asking.site) as keys:
        await send(asking, "bob", ("r1", other))
        await asking.client.publish(subjects.room_key("bob"), b64encode(other.secret))
        await until(lambda: len(caplog.records) == 2, lambda: caplog.messages)
        shown = f"{keys!r} {caplog.text}"
    assert "received another key for room r1 version 7: keeping the first" in shown
    assert "that is not a room key" in shown
    for one in (other, key("r1", 7)):
        assert b64encode(one.secret).decode() not in shown


@pytest.mark.parametrize(("account", "at"), [("a.b", "s"), ("", "s"), ("bob", "*")])
def test_an_account_or_site_must_be_a_token(nc: Client, account: str, at: str) -> None:
    with pytest.raises(ValueError, match="tokens"):
        RoomKeys(nc, account, at)


async def test_a_client_that_is_not_entered_waits_for_no_key(nc: Client, site: str) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await RoomKeys(nc, "bob", site).key("r1")
