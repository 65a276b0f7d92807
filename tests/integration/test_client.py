"""The subscriber's library against the key service on real servers."""

import asyncio
import logging
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import orjson
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from roomkeys import subjects
from roomkeys.client import HeldKey, RoomKey, RoomKeys
from roomkeys.envelope import seal
from roomkeys.missing import (
    Ended,
    KeyMissing,
    KeyNotAvailable,
    NotAnEnvelope,
    NotAsked,
    NotInTime,
    NotOpened,
    NotRoomMember,
    NotStored,
    ServiceAway,
    TooManyRequests,
)
from roomkeys.payload import RoomKeyEvent, marshal
from tests.requests import Asking, room, secret, service
from tests.rig import Rig
from tests.waiting import PATIENCE, until
from worker.ratelimit import RateLimit


def key(room_id: str, version: int) -> RoomKey:
    return RoomKey(version, secret(room_id, version))


@pytest.fixture
async def asking(site_rig: Rig) -> AsyncIterator[Asking]:
    async with service(site_rig) as made:
        yield made


async def send(asking: Asking, account: str, *keys: tuple[str, RoomKey]) -> None:
    """Send keys as the worker does."""
    for room_id, one in keys:
        await asking.client.publish(subjects.room_key(account), marshal(RoomKeyEvent(room_id, one), 5))
    await asking.client.flush()


class Heard:
    """The requests of one kind that were asked, by account."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.accounts: Counter[str] = Counter()

    async def hear(self, message: Msg) -> None:
        self.bodies.append(orjson.loads(message.data))
        self.accounts[message.subject.split(".")[2]] += 1


async def listened(asking: Asking, subject: str) -> Heard:
    heard = Heard()
    await asking.client.subscribe(subject, cb=heard.hear)
    await asking.client.flush()
    return heard


async def test_it_catches_up_with_more_rooms_than_a_page_holds(asking: Asking) -> None:
    rooms = [f"r{number:04}" for number in range(1201)]
    await asking.rooms(*(room(room_id, 3) for room_id in rooms), members=["bob"])
    heard = await listened(asking, subjects.keys_sync(asking.site))
    async with RoomKeys(asking.client, "bob", asking.site) as keys:
        assert [keys.held(room_id) for room_id in rooms] == [[3]] * 1201
    assert len(heard.bodies) == 3


async def test_a_client_with_a_store_asks_only_for_what_is_newer(asking: Asking) -> None:
    await asking.rooms(room("r1", 3), room("r2", 5))
    store = Store(HeldKey("r1", key("r1", 3)), HeldKey("r2", key("r2", 4)))
    heard = await listened(asking, subjects.keys_sync(asking.site))
    async with RoomKeys(asking.client, "bob", asking.site, store=store) as keys:
        assert (keys.held("r1"), keys.held("r2")) == ([3], [4, 5])
    assert [item.version for item in store.saved] == [5]
    assert heard.bodies == [{"have": {"r1": 3, "r2": 4}}]


async def test_a_key_that_comes_while_it_catches_up_is_kept_and_no_older_answer_replaces_it(
    asking: Asking,
) -> None:
    """The answer is read before the newer key is sent and arrives after it."""
    answers: list[Msg] = []

    async def hold_back(message: Msg) -> None:
        answers.append(message)

    site = f"{asking.site}-slow"
    await asking.client.subscribe(subjects.keys_sync(site), cb=hold_back)
    entering = RoomKeys(asking.client, "bob", site)
    entered = asyncio.ensure_future(entering.__aenter__())
    await until(lambda: answers)
    await send(asking, "bob", ("r1", key("r1", 8)), ("r2", key("r2", 1)))
    await until(lambda: entering.held("r1"))
    (message,) = answers
    result = {"status": "ok", "privateKey": b64encode(secret("r1", 7)).decode(), "roomId": "r1", "version": 7}
    await message.respond(orjson.dumps({"results": [result]}))
    keys = await asyncio.wait_for(entered, PATIENCE)
    try:
        assert (keys.held("r1"), keys.held("r2")) == ([7, 8], [1])
        assert (await keys.seal("r1", b""))["version"] == 8
    finally:
        await keys.__aexit__(None, None, None)


async def test_what_one_seals_another_opens_also_with_a_replaced_key(asking: Asking) -> None:
    await asking.rooms(room("r1", 7, past=[6]))
    async with (
        RoomKeys(asking.client, "alice", asking.site) as alice,
        RoomKeys(asking.client, "bob", asking.site) as bob,
    ):
        sealed = await alice.seal("r1", b"hello")
        assert sealed["version"] == 7
        assert await bob.open("r1", sealed) == b"hello"
        assert await bob.open("r1", orjson.dumps(sealed)) == b"hello"
        assert await bob.open("r1", seal(key("r1", 6), b"before")) == b"before"
        assert bob.held("r1") == [6, 7]
        with pytest.raises(NotOpened):
            await bob.open("r1", seal(RoomKey(7, bytes(32)), b"forged"))
        with pytest.raises(NotAnEnvelope):
            await bob.open("r1", b"{}")


async def test_every_error_says_what_is_missing_and_why(asking: Asking) -> None:
    await asking.rooms(room("r1", 7, expired=[5]), {"_id": "bare"})
    async with RoomKeys(asking.client, "bob", asking.site) as keys:
        for room_id, version, deadline, error, why in (
            ("r1", 5, PATIENCE, KeyNotAvailable, "key_not_available"),
            ("r1", 8, 0.5, KeyNotAvailable, "key_not_available"),
            ("bare", None, 0.5, KeyNotAvailable, "key_not_available"),
            ("nowhere", 0, PATIENCE, NotRoomMember, "not_room_member"),
            ("a.b", 0, PATIENCE, NotAsked, "refused"),
            ("r1", 2**60, PATIENCE, NotAsked, "refused"),
            ("r1", 6, 0, NotInTime, "timeout"),
        ):
            expected: type[KeyMissing] = error
            with pytest.raises(expected) as raised:
                await keys.key(room_id, version, deadline=deadline)
            assert (raised.value.room_id, raised.value.version, raised.value.why) == (room_id, version, why)


async def test_without_a_service_keys_that_are_sent_are_held_and_others_missed(nc: Client, site: str) -> None:
    async with RoomKeys(nc, "bob", site) as keys:
        await nc.publish(subjects.room_key("bob"), marshal(RoomKeyEvent("r1", key("r1", 1)), 5))
        assert await keys.key("r1", 1, deadline=PATIENCE) == key("r1", 1)
        with pytest.raises(ServiceAway) as error:
            await keys.key("r1", 2, deadline=0.3)
    assert error.value.passing


async def test_a_search_ends_as_soon_as_the_key_is_sent(asking: Asking) -> None:
    await asking.rooms(room("r1", 7))
    sealed = seal(key("r1", 8), b"early")
    heard = await listened(asking, subjects.keys_batch(asking.site))
    async with RoomKeys(asking.client, "bob", asking.site) as keys:
        opening = asyncio.ensure_future(keys.open("r1", sealed, deadline=PATIENCE))
        await until(lambda: heard.bodies)
        await send(asking, "bob", ("r1", key("r1", 8)))
        assert await opening == b"early"


async def test_asks_for_many_rooms_at_once_are_a_request_for_each_hundred_of_them(asking: Asking) -> None:
    rooms = [f"r{number}" for number in range(150)]
    await asking.rooms(*(room(room_id, 7, past=[6]) for room_id in rooms), members=["bob"])
    heard = await listened(asking, subjects.keys_batch(asking.site))
    async with RoomKeys(asking.client, "bob", asking.site) as keys:
        asked = [keys.open(room_id, seal(key(room_id, 6), room_id.encode())) for room_id in [*rooms, *rooms]]
        outsider = keys.open("nowhere", seal(key("nowhere", 1), b""))
        *opened, refused = await asyncio.gather(*asked, outsider, return_exceptions=True)
    assert opened == [room_id.encode() for room_id in [*rooms, *rooms]]
    assert isinstance(refused, NotRoomMember)
    assert [len(body["requests"]) for body in heard.bodies] == [100, 51]


async def test_a_store_has_a_key_before_anybody_is_told_of_it(asking: Asking) -> None:
    store = Store()
    async with RoomKeys(asking.client, "bob", asking.site, store=store) as keys:
        saved_then: list[list[int]] = []
        keys.on_change(lambda _: saved_then.append([item.version for item in store.saved]))
        changes = keys.changes()
        await send(asking, "bob", *(("r1", key("r1", version)) for version in (1, 2, 1)))
        told = [await asyncio.wait_for(anext(changes), PATIENCE) for _ in range(2)]
    assert [item.version for item in told] == [1, 2]
    assert saved_then == [[1], [1, 2]]


async def test_a_key_that_cannot_be_stored_is_not_held_until_it_can(asking: Asking) -> None:
    await asking.rooms(room("r1", 7, past=[6]))
    store = Store()
    store.fails = True
    async with RoomKeys(asking.client, "bob", asking.site, store=store) as keys:
        with pytest.raises(NotStored):
            await keys.open("r1", seal(key("r1", 6), b"x"), deadline=0.3)
        assert keys.held("r1") == []
        store.fails = False
        assert await keys.open("r1", seal(key("r1", 6), b"x"), deadline=PATIENCE) == b"x"
        await asyncio.wait_for(keys.caught_up(), PATIENCE)
        assert keys.held("r1") == [6, 7]


async def test_an_account_that_asks_too_often_is_told_so_and_served_later(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.service.RateLimit", lambda: RateLimit(rate=0.5, burst=1))
    async with service(site_rig) as asking:
        await asking.rooms(room("r1", 7, past=[6]))
        async with RoomKeys(asking.client, "bob", asking.site) as keys:  # this is its one request in two seconds
            with pytest.raises(TooManyRequests):
                await keys.key("r1", 6, deadline=0.1)
            assert await keys.key("r1", 6, deadline=PATIENCE) == key("r1", 6)


async def test_iterators_and_searches_end_with_the_context_and_the_connection_stays(asking: Asking) -> None:
    await asking.rooms(room("r1", 7))
    async with RoomKeys(asking.client, "bob", asking.site) as keys:
        changes = keys.changes()
        opening = asyncio.ensure_future(keys.key("r1", 9, deadline=PATIENCE))
        await asyncio.sleep(0)
    assert [item async for item in changes] == []
    with pytest.raises(Ended):
        await opening
    with pytest.raises(Ended):
        await keys.key("r1", 8)
    assert asking.client.is_connected
    assert await keys.key("r1", 7) == key("r1", 7)


async def test_nothing_that_is_logged_or_shown_has_key_bytes(
    asking: Asking, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "roomkeys")
    await asking.rooms(room("r1", 7))
    other = RoomKey(7, b"?" * 32)
    async with RoomKeys(asking.client, "bob", asking.site) as keys:
        await send(asking, "bob", ("r1", other))
        await asking.client.publish(subjects.room_key("bob"), b64encode(other.secret))
        await until(lambda: len(caplog.records) == 2, lambda: caplog.messages)
        shown = f"{keys!r} {caplog.text}"
    assert "another key for room r1 version 7: the first is kept" in shown
    assert "is no room key" in shown
    for one in (other, key("r1", 7)):
        assert b64encode(one.secret).decode() not in shown


@pytest.mark.parametrize(("account", "at"), [("a.b", "s"), ("", "s"), ("bob", "*")])
def test_an_account_or_site_that_is_no_token_is_refused(nc: Client, account: str, at: str) -> None:
    with pytest.raises(ValueError, match="tokens"):
        RoomKeys(nc, account, at)


class Store:
    """A store in memory that can fail."""

    def __init__(self, *kept: HeldKey) -> None:
        self.kept = kept
        self.saved: list[HeldKey] = []
        self.fails = False

    async def load(self) -> Iterable[HeldKey]:
        return self.kept

    async def save(self, keys: Sequence[HeldKey]) -> None:
        if self.fails:
            raise OSError("disk full")
        self.saved += keys
