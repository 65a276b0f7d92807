"""A gate of the NATS client: what it does not let in is dropped, however the bytes are cut."""

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from nats.aio.subscription import Subscription

from worker.broker.nats_client import SteadyClient

LARGE = 40_000
SIZES = st.sampled_from([0, 1, 3, 1_000, 16 * 1024, 16 * 1024 + 1, LARGE])
MESSAGES = st.lists(st.tuples(st.booleans(), st.booleans(), SIZES), min_size=1, max_size=8)


class Recording(SteadyClient):
    """A client without a connection: it keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bytes] = []
        self.largest_buffer = 0
        self.guard(Subscription(self, 1), self._let_in)

    def _let_in(self, subject: bytes, _reply: bytes) -> bool:
        self.asked.append(subject)
        return subject.startswith(b"good")

    async def feed(self, data: bytes) -> None:
        await self._ps.parse(data)
        self.largest_buffer = max(self.largest_buffer, len(self._ps.buf))


def wire(number: int, *, good: bool, headers: bool, size: int) -> bytes:
    """Return a message of the protocol; its payload looks like another message."""
    subject = b"%s.%d" % (b"good" if good else b"bad", number)
    payload = (b"MSG good.x 1 0\r\n\r\n" * (size // 18 + 1))[:size]
    head = b"NATS/1.0\r\nA: b\r\n\r\n"
    if headers:
        return b"HMSG %s 1 r %d %d\r\n%s%s\r\n" % (subject, len(head), len(head) + size, head, payload)
    return b"MSG %s 1 r %d\r\n%s\r\n" % (subject, size, payload)


async def given_to_subscriptions(messages: list[tuple[bool, bool, int]], chunk: int) -> tuple[Recording, list[Any]]:
    client = Recording()
    subscription = Subscription(client, 1, cb=None)
    queue: asyncio.Queue[Any] = asyncio.Queue()
    subscription._pending_queue = queue
    client._subs[1] = subscription
    data = b"".join(
        wire(number, good=good, headers=headers, size=size) for number, (good, headers, size) in enumerate(messages)
    )
    for at in range(0, len(data), chunk):
        await client.feed(data[at : at + chunk])
    return client, [queue.get_nowait() for _ in range(queue.qsize())]


@settings(deadline=None)
@given(MESSAGES, st.sampled_from([1_000, 4_096, 32_768, 100_000]))
def test_each_message_is_asked_for_once_and_only_what_is_let_in_arrives(
    messages: list[tuple[bool, bool, int]], chunk: int
) -> None:
    client, arrived = asyncio.run(given_to_subscriptions(messages, chunk))
    assert [int(subject.split(b".")[1]) for subject in client.asked] == list(range(len(messages)))
    sizes = [(item.subject, len(item.data)) for item in arrived]
    assert sizes == [(f"good.{number}", size) for number, (good, _, size) in enumerate(messages) if good]


def test_large_message_that_is_not_let_in_is_not_collected() -> None:
    client, arrived = asyncio.run(given_to_subscriptions([(False, False, 1_000_000), (True, True, 3)], 4_096))
    assert [item.subject for item in arrived] == ["good.1"]
    assert client.largest_buffer < 10_000
