"""Membership at a client: whatever comes in whatever order, it seals with no key from before a removal."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomkeys.backoff import Backoff
from roomkeys.client.keyring import HeldKey, KeyRing, StoredKeyRing
from roomkeys.client.listeners import KeyListeners
from roomkeys.client.membership import MembershipNotice, Memberships
from roomkeys.client.pending import PendingKeys
from roomkeys.keys import RoomKey

ROOM = "r1"
START_MS = 1_000


def added(at_ms: int) -> MembershipNotice:
    return MembershipNotice(ROOM, at_ms, is_member=True)


def removed(at_ms: int) -> MembershipNotice:
    return MembershipNotice(ROOM, at_ms, is_member=False)


@dataclass(frozen=True)
class SentKey:
    """A key message: the version, and when the worker sent it."""

    version: int
    at_ms: int


Message = MembershipNotice | SentKey


class Client:
    """The parts of a client that remember: what `RoomKeys` does with a message, without a connection."""

    def __init__(self) -> None:
        self.ring = KeyRing()
        self.memberships = Memberships()
        pending = PendingKeys(Backoff(0, 0), window_seconds=0)
        self.keys = StoredKeyRing(self.ring, None, pending.resolve, KeyListeners(10).notify)

    async def receive(self, message: Message) -> None:
        if isinstance(message, SentKey):
            await self.keys.add([held(message.version)], self.memberships.sent_at(message.at_ms))
        elif self.memberships.hear(message):
            self.ring.retract(message.room_id)

    async def ask(self, version: int | None) -> None:
        """Receive the key service's answer to a request for the key in use; None: not a member."""
        if version is None:
            self.ring.retract(ROOM)
        else:
            await self.keys.add([held(version)], self.memberships.asked_now())

    @property
    def seals_with(self) -> int | None:
        return self.ring.in_use().get(ROOM)


def held(version: int) -> HeldKey:
    return HeldKey(ROOM, RoomKey(version, bytes([version]) * 32))


@dataclass
class History:
    """What the worker sends to one account, and what is true in the end."""

    steps: Sequence[str]
    messages: list[Message] = field(default_factory=list)
    version: int = 0
    is_member: bool = True

    def __post_init__(self) -> None:
        now = START_MS
        self.messages += [added(now), SentKey(0, now + 1)]
        for step in self.steps:
            now += 10
            match step:
                case "remove" if self.is_member:
                    self.version += 1
                    self.is_member = False
                    self.messages.append(removed(now))
                case "add" if not self.is_member:
                    self.is_member = True
                    self.messages += [added(now), SentKey(self.version, now + 1)]
                case "rotate":
                    self.version += 1
                    if self.is_member:
                        self.messages.append(SentKey(self.version, now + 1))


HISTORIES = st.lists(st.sampled_from(["remove", "add", "rotate"]), max_size=8).map(History)


async def receive_all(client: Client, messages: Sequence[Message]) -> None:
    for message in messages:
        await client.receive(message)


@given(HISTORIES, st.data())
def test_in_any_order_a_client_seals_with_the_newest_key_or_asks(history: History, data: st.DataObject) -> None:
    """Messages may also come several times. Once the key service has answered, the client knows the truth."""
    again = data.draw(st.lists(st.sampled_from(history.messages), max_size=5))
    messages = data.draw(st.permutations([*history.messages, *again]))
    client = Client()
    truth = history.version if history.is_member else None
    asyncio.run(receive_all(client, messages))
    assert client.seals_with in {truth, None}
    assert not (history.is_member and client.memberships.has_left(ROOM))
    asyncio.run(client.ask(truth))
    assert client.seals_with == truth
    keys_sent = {message.version for message in messages if isinstance(message, SentKey)}
    assert keys_sent <= set(client.ring.versions(ROOM)), "earlier messages can no longer be opened"


@given(HISTORIES)
def test_in_order_a_client_needs_no_answer(history: History) -> None:
    client = Client()
    asyncio.run(receive_all(client, history.messages))
    assert client.seals_with == (history.version if history.is_member else None)
    assert client.memberships.has_left(ROOM) is not history.is_member


@given(HISTORIES, st.data())
def test_a_clock_that_is_wrong_after_a_takeover_hides_no_removal(history: History, data: st.DataObject) -> None:
    """The next replica's clock may be behind. Messages still come in order."""
    from_here = data.draw(st.integers(0, len(history.messages)))
    behind_ms = data.draw(st.integers(0, 100))
    client = Client()
    skewed = [
        message if number < from_here else shifted(message, -behind_ms)
        for number, message in enumerate(history.messages)
    ]
    asyncio.run(receive_all(client, skewed))
    truth = history.version if history.is_member else None
    assert client.seals_with in {truth, None}
    asyncio.run(client.ask(truth))
    assert client.seals_with == truth
    assert not (history.is_member and client.memberships.has_left(ROOM))


def shifted(message: Message, by_ms: int) -> Message:
    if isinstance(message, SentKey):
        return SentKey(message.version, message.at_ms + by_ms)
    return MembershipNotice(message.room_id, message.at_ms + by_ms, message.is_member)


@pytest.mark.parametrize(
    ("messages", "seals_with", "has_left"),
    [
        ([added(5), SentKey(0, 6)], 0, False),
        ([SentKey(0, 6), removed(9)], None, True),
        ([SentKey(0, 6), removed(9), SentKey(1, 8)], None, True),
        ([SentKey(0, 6), removed(9), added(20)], None, False),
        ([SentKey(0, 6), removed(9), added(20), SentKey(1, 8)], None, False),
        ([SentKey(0, 6), removed(9), added(20), SentKey(3, 21)], 3, False),
        ([SentKey(0, 6), removed(9), added(20), SentKey(3, 21), added(20)], 3, False),
        ([SentKey(3, 21), added(20), removed(9)], None, False),
        ([SentKey(0, 6), removed(9), added(9), SentKey(1, 9)], None, False),
    ],
    ids=[
        "a joiner seals with its first key",
        "an account that was removed does not seal",
        "a key from before the removal that comes late changes nothing",
        "an account that comes back waits for its key",
        "a key from before the removal is not that key",
        "the key that is sent after its return is that key",
        "a repeated notice changes nothing",
        "a removal that comes too late leaves it to the key service",
        "two notices of one moment leave it to the key service",
    ],
)
async def test_notices_and_keys(messages: Sequence[Message], seals_with: int | None, *, has_left: bool) -> None:
    client = Client()
    await receive_all(client, messages)
    assert (client.seals_with, client.memberships.has_left(ROOM)) == (seals_with, has_left)


async def test_a_key_is_no_longer_in_use_if_a_notice_comes_while_it_is_saved() -> None:
    client = Client()
    started, may_end = asyncio.Event(), asyncio.Event()

    class Slow:
        async def load(self) -> Sequence[HeldKey]:
            return []

        async def save(self, _: Sequence[HeldKey]) -> None:
            started.set()
            await may_end.wait()

    pending = PendingKeys(Backoff(0, 0), window_seconds=0)
    client.keys = StoredKeyRing(client.ring, Slow(), pending.resolve, KeyListeners(10).notify)
    saving = asyncio.ensure_future(client.receive(SentKey(1, 5)))
    await started.wait()
    await client.receive(removed(6))
    may_end.set()
    await saving
    assert (client.seals_with, client.ring.versions(ROOM)) == (None, [1])
