"""The key fetcher: adds the keys in replies to the ring, and turns refusals into errors."""

from collections.abc import Callable

import orjson
import pytest

from roomkeys.backoff import NO_JITTER, Backoff
from roomkeys.client.errors import KeyNotAvailable, ServiceUnavailable
from roomkeys.client.fetcher import KeyFetcher
from roomkeys.client.keyring import HeldKey, KeyRing, StoredKeyRing
from roomkeys.client.listeners import KeyListeners
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


class Service:
    """Replies with `answer`. The keys in `meanwhile` arrive while the request is under way."""

    def __init__(self, keys: StoredKeyRing, meanwhile: tuple[HeldKey, ...], answer: Answer) -> None:
        self.keys = keys
        self.meanwhile = meanwhile
        self.answer = answer
        self.subjects: list[str] = []

    async def request(self, subject: str, body: bytes) -> bytes | None:
        self.subjects.append(subject)
        await self.keys.add(self.meanwhile)
        return self.answer(body)


def fetcher(ring: KeyRing, *meanwhile: HeldKey, answer: Answer = batch_answer) -> tuple[Service, KeyFetcher]:
    pending = PendingKeys(BACKOFF, window_seconds=0)
    keys = StoredKeyRing(ring, None, pending.resolve, KeyListeners(10).notify)
    service = Service(keys, meanwhile, answer)
    return service, KeyFetcher(service.request, "bob", "s", keys, BACKOFF)


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
