"""Races at the clients: keys in any order, and thousands of clients that miss one key at once."""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial

import nats
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.aio.msg import Msg

from roomkeys import subjects
from roomkeys.backoff import Backoff
from roomkeys.client import ClientLimits, RoomKeys, protocol
from roomkeys.client.envelope import EncryptedMessage, seal
from roomkeys.client.keyring import HeldKey, KeyRing, StoredKeyRing
from roomkeys.client.listeners import KeyListeners
from roomkeys.client.pending import PendingKeys
from roomkeys.keys import RoomKey
from roomkeys.membership import RoomView
from roomkeys.messages import key_replies, key_requests
from roomkeys.messages.key_requests import Item
from roomkeys.messages.room_key import RoomKeyEvent, marshal
from store.database import connect
from tests.contract.stores import Commands
from tests.harness.key_service import room, secret
from tests.harness.polling import until
from tests.harness.site import Rig, rig

ACCOUNTS = [f"u{number}" for number in range(10_000)]
CONNECTIONS = 8
PATIENCE = 90.0
LIMITS = ClientLimits(reconnect_check_seconds=PATIENCE)
"""No connection is lost."""

VERSIONS = range(6)
ROOMS = ("r1", "r2")


def key(room_id: str, version: int) -> RoomKey:
    return RoomKey(version, secret(room_id, version))


def state(room_id: str, version: int) -> RoomView:
    return RoomView(key(room_id, version), tuple(key(room_id, older) for older in range(version)))


def sent(room_id: str, version: int) -> list[HeldKey]:
    """Decode a key message of the worker."""
    decoded = protocol.decode_key_message(marshal(RoomKeyEvent(room_id, key(room_id, version)), 5))
    assert decoded is not None
    return [decoded.key]


def sync(versions: Sequence[int]) -> list[HeldKey]:
    """Decode a page of `keys.sync` from when the rooms had these versions."""
    states = {room_id: state(room_id, version) for room_id, version in zip(ROOMS, versions, strict=True)}
    return list(
        protocol.decode_sync_reply(key_replies.encode_sync_reply([Item(one) for one in ROOMS], states, 5, None)).keys
    )


def batch(asked: Sequence[tuple[str, int]]) -> list[HeldKey]:
    """Decode the reply to a batch."""
    items = [Item(room_id, version) for room_id, version in asked]
    read = key_requests.decode_batch_request(protocol.encode_batch_request(items))
    answer = key_replies.encode_batch_reply(read, {room_id: state(room_id, max(VERSIONS)) for room_id in ROOMS}, 5)
    return list(protocol.decode_batch_reply(items, answer).keys.values())


KEYS = st.tuples(st.sampled_from(ROOMS), st.sampled_from(VERSIONS))
DELIVERIES = st.lists(
    st.one_of(
        KEYS.map(lambda name: sent(*name)),
        st.lists(st.sampled_from(VERSIONS), min_size=2, max_size=2).map(sync),
        st.lists(KEYS, min_size=1, max_size=5, unique=True).map(batch),
    ),
    min_size=1,
    max_size=12,
)


def final_ring(deliveries: Sequence[Sequence[HeldKey]]) -> tuple[dict[str, list[RoomKey | None]], dict[str, int]]:
    """Return the keys of a client after concurrent deliveries, and the versions that it would seal with."""
    ring = KeyRing(versions=4)
    pending = PendingKeys(Backoff(0, 0), window_seconds=0)
    keys = StoredKeyRing(ring, None, pending.resolve, KeyListeners(10).notify)

    async def add_all() -> None:
        await asyncio.gather(*(keys.add(delivery) for delivery in deliveries))

    asyncio.run(add_all())
    return {one: [ring.key(one, version) for version in VERSIONS] for one in ROOMS}, ring.in_use()


@given(DELIVERIES, st.data())
def test_m_shuffled_and_repeated_keys_converge_at_a_client(
    deliveries: list[list[HeldKey]], data: st.DataObject
) -> None:
    repeated = data.draw(st.lists(st.sampled_from(deliveries), max_size=6))
    shuffled = data.draw(st.permutations([*deliveries, *repeated]))
    held, in_use = final_ring(deliveries)
    assert final_ring(shuffled) == (held, in_use)
    for one in ROOMS:
        assert all(item is None or item == key(one, version) for version, item in enumerate(held[one]))


class Asked:
    """How often each account asked for keys."""

    def __init__(self) -> None:
        self.accounts: Counter[str] = Counter()

    async def hear(self, message: Msg) -> None:
        self.accounts[message.subject.split(".")[2]] += 1


class Crowd:
    """Clients that come in by and by, and then all want to open one message at once."""

    def __init__(self, site: str, sealed: EncryptedMessage) -> None:
        self.site = site
        self.sealed = sealed
        self.entered = 0
        self.door = asyncio.Semaphore(500)
        self.comes = asyncio.Event()

    async def member(self, client: Client, account: str) -> bytes:
        async with AsyncExitStack() as stack:
            async with self.door:
                keys = await stack.enter_async_context(RoomKeys(client, account, self.site, limits=LIMITS))
                await keys.caught_up()
            self.entered += 1
            await self.comes.wait()
            return await keys.open("r1", self.sealed, deadline=PATIENCE)


@asynccontextmanager
async def connections(url: str, number: int) -> AsyncIterator[list[Client]]:
    async with AsyncExitStack() as stack:
        clients = [await nats.connect(url, pending_size=-1) for _ in range(number)]
        for client in clients:
            stack.push_async_callback(client.close)
        yield clients


async def settle(made: Rig, version: int) -> None:
    """Put a version into use as the worker does, with the one before among the replaced ones."""
    settled = room("r1", version, past=[version - 1])
    await made.db.rooms.update_one({"_id": "r1"}, {"$set": settled}, upsert=True)


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the collector from walking over ten thousand clients again and again: elsewhere each has its own."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.timeout(300)
async def test_n_10_000_clients_that_miss_one_version_few_reads_jittered_retries(
    nats_url: str, mongo_uri: str, database: str, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They ask before the version is in use, so that many of them have to ask again."""
    commands, asked = Commands(), Asked()
    crowd = Crowd(site, seal(key("r1", 8), b"hello"))
    monkeypatch.setattr("worker.app.connect", partial(connect, listeners=[commands]))
    with uncollected():
        async with (
            rig(nats_url, mongo_uri, database, site, hears=(), mongo_driver="pymongo") as made,
            made.worker(),
            connections(nats_url, CONNECTIONS) as clients,
            asyncio.TaskGroup() as tasks,
        ):
            await settle(made, 7)
            await made.db.subscriptions.insert_many(
                [{"roomId": "r1", "u": {"account": account}} for account in ACCOUNTS], ordered=False
            )
            await made.nc.subscribe(subjects.keys_batch(site), cb=asked.hear)
            members = [
                tasks.create_task(crowd.member(clients[number % CONNECTIONS], account))
                for number, account in enumerate(ACCOUNTS)
            ]
            await until(lambda: crowd.entered == len(ACCOUNTS), lambda: crowd.entered, PATIENCE)
            commands.take()
            crowd.comes.set()
            enough = len(ACCOUNTS) * 1.1
            await until(lambda: asked.accounts.total() >= enough, asked.accounts.total, PATIENCE)
            await settle(made, 8)
            await asyncio.wait(members, timeout=PATIENCE)
            read = commands.take()
    assert Counter(task.result() for task in members) == {b"hello": len(ACCOUNTS)}
    assert read.total() < 200, f"{read.total()} commands: {read}"
    assert len(asked.accounts) == len(ACCOUNTS)
    assert max(asked.accounts.values()) <= 6, asked.accounts.most_common(5)
