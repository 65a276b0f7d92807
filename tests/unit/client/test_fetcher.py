"""The key fetcher: adds the keys in replies to the ring, and turns refusals into errors."""

from collections.abc import Callable

import orjson
import pytest

from roomkeys.backoff import NO_JITTER, Backoff
from roomkeys.client.errors import KeyMissing, KeyNotAvailable, NotRoomMember, RoomHasNoKey, ServiceUnavailable
from roomkeys.client.fetcher import KeyFetcher
from roomkeys.client.keyring import HeldKey, KeyRing, StoredKeyRing
from roomkeys.client.listeners import KeyListeners
from roomkeys.client.membership import MembershipNotice, Memberships
from roomkeys.client.pending import PendingKeys
from roomkeys.keys import RoomKey
from roomkeys.membership import RoomView
from roomkeys.messages import key_replies, key_requests
from roomkeys.messages.key_requests import Item

OURS, THEIRS, OLD = RoomKey(7, b"o" * 32), RoomKey(7, b"t" * 32), RoomKey(3, b"3" * 32)
STATES = {"r1": RoomView(THEIRS, (OLD,))}
BACKOFF = Backoff(0.5, 8, spread=NO_JITTER)
MAX_BYTES = 1_000

Answer = Callable[[bytes], bytes | None]


def batch_answer(body: bytes) -> bytes:
    return key_replies.encode_batch_reply(key_requests.decode_batch_request(body), STATES, 5)


def sync_answer(body: bytes) -> bytes:
    """Answer a sync or a status request: a room that is not in `STATES` is not the account's."""
    if b"roomIds" in body:
        return key_replies.encode_status_reply(key_requests.decode_status_request(body), STATES)
    page, after = key_replies.sync_page(
        "bob", key_requests.decode_sync_request("bob", body), list(STATES), STATES, most=9, more=False
    )
    return key_replies.encode_sync_reply(page, STATES, 5, after)


class Service:
    """Replies with `answer`. The keys in `meanwhile` arrive while the request is under way, and the `notice` too."""

    notice: MembershipNotice | None = None

    def __init__(
        self, keys: StoredKeyRing, memberships: Memberships, meanwhile: tuple[HeldKey, ...], answer: Answer
    ) -> None:
        self.keys = keys
        self.memberships = memberships
        self.meanwhile = meanwhile
        self.answer = answer
        self.subjects: list[str] = []

    async def request(self, subject: str, body: bytes) -> bytes | None:
        self.subjects.append(subject)
        await self.keys.add(self.meanwhile)
        if self.notice is not None:
            self.memberships.hear(self.notice)
            self.keys.ring.retract(self.notice.room_id)
        return self.answer(body)


def fetcher(ring: KeyRing, *meanwhile: HeldKey, answer: Answer = batch_answer) -> tuple[Service, KeyFetcher]:
    pending = PendingKeys(BACKOFF, window_seconds=0)
    keys = StoredKeyRing(ring, None, pending.resolve, KeyListeners(10).notify)
    memberships = Memberships()
    service = Service(keys, memberships, meanwhile, answer)
    return service, KeyFetcher(service.request, "bob", "s", keys, memberships, BACKOFF)


async def test_a_key_that_arrives_during_the_request_takes_precedence_over_the_reply() -> None:
    ring = KeyRing()
    service, keys = fetcher(ring, HeldKey("r1", OURS))
    assert await keys.fetch([Item("r1", 7)]) == {Item("r1", 7): OURS}
    assert ring.key("r1", 7) == OURS
    assert service.subjects == ["chat.user.bob.request.rooms.s.keys.batch"]


async def test_a_key_that_is_too_old_for_the_ring_is_still_returned() -> None:
    ring = KeyRing(versions=1)
    _, keys = fetcher(ring, HeldKey("r1", OURS))
    assert await keys.fetch([Item("r1", 3)]) == {Item("r1", 3): OLD}
    assert ring.versions("r1") == [7]


@pytest.mark.parametrize(("version", "retryable"), [(6, False), (8, True)])
async def test_a_version_below_the_one_in_use_is_gone_and_one_above_may_still_come(
    version: int, *, retryable: bool
) -> None:
    _, keys = fetcher(KeyRing(), HeldKey("r1", OURS))
    (error,) = (await keys.fetch([Item("r1", version)])).values()
    assert isinstance(error, KeyNotAvailable)
    assert error.retryable is retryable


async def test_without_a_reply_each_item_has_its_own_error() -> None:
    _, keys = fetcher(KeyRing(), answer=lambda _: None)
    outcome = await keys.fetch([Item("r1"), Item("r2", 4)])
    unavailable = [
        (type(error), error.room_id, error.version)
        for error in outcome.values()
        if isinstance(error, ServiceUnavailable)
    ]
    assert unavailable == [(ServiceUnavailable, "r1", None), (ServiceUnavailable, "r2", 4)]


async def test_an_item_that_the_reply_leaves_out_has_an_error_and_the_others_have_their_keys() -> None:
    def first_result_only(body: bytes) -> bytes:
        document = orjson.loads(batch_answer(body))
        return orjson.dumps({**document, "results": document["results"][:1]})

    _, keys = fetcher(KeyRing(), answer=first_result_only)
    outcome = await keys.fetch([Item("r1", 7), Item("r1", 3)])
    assert outcome[Item("r1", 7)] == THEIRS
    assert isinstance(outcome[Item("r1", 3)], ServiceUnavailable)


async def test_a_failed_sync_warns_once_and_pauses_longer_each_time(caplog: pytest.LogCaptureFixture) -> None:
    _, keys = fetcher(KeyRing(), answer=lambda _: None)
    assert [await keys.sync(MAX_BYTES, force=False) for _ in range(3)] == [0.5, 1.0, 2.0]
    assert caplog.messages == ["cannot fetch missed keys of bob, will retry: unavailable"]


@pytest.mark.parametrize("is_member", [False, True])
async def test_a_reply_that_a_notice_overtakes_does_not_show_which_key_is_in_use(*, is_member: bool) -> None:
    """It may have been read before the membership changed. The key itself is kept."""
    ring = KeyRing()
    service, keys = fetcher(ring)
    service.notice = MembershipNotice("r1", 5, is_member=is_member)
    (outcome,) = (await keys.fetch([Item("r1")])).values()
    assert isinstance(outcome, KeyMissing)
    assert (outcome.retryable, ring.key("r1"), ring.key("r1", 7)) == (True, None, THEIRS)
    service.notice = None
    assert await keys.fetch([Item("r1")]) == {Item("r1"): THEIRS}
    assert ring.in_use() == {"r1": 7}


async def test_a_sync_that_a_notice_overtakes_does_not_show_which_key_is_in_use() -> None:
    ring = KeyRing()
    service, keys = fetcher(ring, answer=sync_answer)
    service.notice = MembershipNotice("r1", 5, is_member=False)
    await keys.sync(MAX_BYTES, force=True)
    assert (ring.versions("r1"), ring.in_use()) == ([7], {})


async def test_a_sync_reveals_the_rooms_that_the_account_has_left() -> None:
    """So it is after a restart with stored keys, and after a removal while the client was offline."""
    ring = KeyRing()
    ring.add(HeldKey("r1", OLD))
    ring.add(HeldKey("left", OURS))
    _, keys = fetcher(ring, answer=sync_answer)
    assert await keys.sync(MAX_BYTES, force=True) is None
    assert (ring.in_use(), ring.versions("left")) == ({"r1": 7}, [7])


async def test_a_refused_request_for_an_older_key_reveals_that_the_account_has_left() -> None:
    ring = KeyRing()
    ring.add(HeldKey("left", OURS))
    _, keys = fetcher(ring)
    (error,) = (await keys.fetch([Item("left", 3)])).values()
    assert isinstance(error, NotRoomMember)
    assert (ring.in_use(), ring.versions("left")) == ({}, [7])


@pytest.mark.parametrize(("users", "error"), [(2, RoomHasNoKey), (3, KeyNotAvailable)])
async def test_only_a_dm_is_said_to_have_no_key(users: int, error: type[KeyMissing]) -> None:
    def answer(body: bytes) -> bytes:
        if b"roomIds" in body:
            return key_replies.encode_status_reply(
                key_requests.decode_status_request(body), {"d1": RoomView(users=users)}
            )
        batch = key_requests.decode_batch_request(body)
        return key_replies.encode_batch_reply(batch, {"d1": RoomView(users=users)}, 5)

    _, keys = fetcher(KeyRing(), answer=answer)
    outcome = await keys.fetch([Item("d1"), Item("d1", 3)])
    assert [type(found) for found in outcome.values()] == [error, KeyNotAvailable]
