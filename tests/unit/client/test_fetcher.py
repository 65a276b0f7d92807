"""Questions: what an answer brings is held, and what is held already comes before it."""

import pytest

from roomkeys.client.errors import KeyNotAvailable, ServiceUnavailable
from roomkeys.client.fetcher import KeyFetcher
from roomkeys.client.keyring import HeldKey, Holder, KeyRing
from roomkeys.client.resync import Backoff
from roomkeys.keys import RoomKey
from roomkeys.membership import RoomView
from roomkeys.messages import key_replies, key_requests
from roomkeys.messages.key_requests import Item

OURS, THEIRS, OLD = RoomKey(7, b"o" * 32), RoomKey(7, b"t" * 32), RoomKey(3, b"3" * 32)
STATES = {"r1": RoomView(THEIRS, (OLD,))}


class Service:
    """Answers a batch; `meanwhile` comes while the question is on its way. Away, it answers nothing."""

    def __init__(self, holder: Holder, *meanwhile: HeldKey, away: bool = False) -> None:
        self.holder = holder
        self.meanwhile = meanwhile
        self.away = away
        self.subjects: list[str] = []

    async def request(self, subject: str, body: bytes) -> bytes | None:
        self.subjects.append(subject)
        await self.holder.hold(self.meanwhile)
        return None if self.away else key_replies.batch_answer(key_requests.read_batch(body), STATES, 5)


def asking(ring: KeyRing, *meanwhile: HeldKey, away: bool = False) -> tuple[Service, KeyFetcher]:
    holder = Holder(ring, None, lambda _, __: None)
    service = Service(holder, *meanwhile, away=away)
    return service, KeyFetcher(service.request, "bob", "s", holder, Backoff())


async def test_a_key_that_came_meanwhile_is_not_replaced_by_the_answer() -> None:
    ring = KeyRing()
    service, questions = asking(ring, HeldKey("r1", OURS))
    assert await questions.several([Item("r1", 7)]) == {Item("r1", 7): OURS}
    assert ring.key("r1", 7) == OURS
    assert service.subjects == ["chat.user.bob.request.rooms.s.keys.batch"]


async def test_a_key_that_is_too_old_to_be_kept_is_still_an_answer() -> None:
    ring = KeyRing(versions=1)
    _, questions = asking(ring, HeldKey("r1", OURS))
    assert await questions.several([Item("r1", 3)]) == {Item("r1", 3): OLD}
    assert ring.versions("r1") == [7]


@pytest.mark.parametrize(("version", "retryable"), [(6, False), (8, True)])
async def test_a_version_before_that_in_use_will_not_come_and_one_after_it_may(
    version: int, *, retryable: bool
) -> None:
    _, questions = asking(KeyRing(), HeldKey("r1", OURS))
    (error,) = (await questions.several([Item("r1", version)])).values()
    assert isinstance(error, KeyNotAvailable)
    assert error.retryable is retryable


async def test_without_an_answer_every_item_has_an_error_of_its_own() -> None:
    _, questions = asking(KeyRing(), away=True)
    outcome = await questions.several([Item("r1"), Item("r2", 4)])
    away = [
        (type(error), error.room_id, error.version)
        for error in outcome.values()
        if isinstance(error, ServiceUnavailable)
    ]
    assert away == [(ServiceUnavailable, "r1", None), (ServiceUnavailable, "r2", 4)]
