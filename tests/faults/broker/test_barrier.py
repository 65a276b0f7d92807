"""The barrier: nothing is finished before the broker has confirmed that it took every message."""

import asyncio
import gc
from collections.abc import Sequence

import nats
import nats.errors
import pytest

from roomkeys.decisions.decision import OutboxEntry
from roomkeys.errors import TransientError
from tests.faults.machinery.wire import Place, Stall, Swallow
from tests.harness import events
from tests.harness.proxy import Chunk, Cut, Proxy, proxied
from tests.harness.site import Rig
from worker.broker import connection as brokers
from worker.broker.connection import Unconfirmed
from worker.pipeline.deliver import Publisher
from worker.settings import read_settings

CREATE = events.create("r1", "bob", "carol")
REMOVE_BOB = events.remove("r1", account="bob")


class AfterPing:
    """Lets pass what comes up to and including the next PING, drops the rest, and cuts at the PING after it."""

    def __init__(self) -> None:
        self.dropped = bytearray()
        self.pinged = False
        self.struck = False

    async def __call__(self, chunk: Chunk) -> bytes:
        if self.struck or not chunk.from_client:
            return chunk.data
        data, passed = chunk.data, b""
        if not self.pinged:
            before, ping, data = data.partition(b"PING\r\n")
            self.pinged = bool(ping)
            passed = before + ping
        self.dropped += data
        self.struck = b"PING\r\n" in self.dropped
        if self.struck:
            raise Cut(passed)
        return passed


async def test_a_ping_never_overtakes_the_messages_it_confirms(site_rig: Rig) -> None:
    """nats-py writes a PING past whatever waits in its buffer; ours goes after it."""
    await site_rig.users("alice", "bob", "carol")
    async with proxied(site_rig.settings.nats_url[0]) as proxy, site_rig.worker(nats_url=[proxy.url]):
        await site_rig.ask("create", CREATE)
        at = len(proxy.sent)
        await site_rig.ask("member.remove", REMOVE_BOB)
        wire = bytes(proxy.sent[at:])
    wire = wire[wire.index(b"HPUB ") :]  # a ping before that is the creation's
    last_key, ping = wire.rfind(b"event.room.key"), wire.find(b"PING\r\n")
    assert 0 <= last_key < wire.find(b"PING\r\n", last_key), wire
    assert ping > wire.find(b"event.room.key"), wire


@pytest.mark.parametrize("fault", [AfterPing(), Swallow(b"PUB chat.user.")], ids=["after a ping", "from a key on"])
async def test_what_the_broker_did_not_take_is_not_finished_and_goes_again_in_full(
    site_rig: Rig, fault: AfterPing | Swallow
) -> None:
    await site_rig.users("alice", "bob", "carol")
    async with proxied(site_rig.settings.nats_url[0]) as proxy, site_rig.worker(nats_url=[proxy.url]):
        await site_rig.ask("create", CREATE)
        proxy.fault = fault
        removed = await site_rig.ask("member.remove", REMOVE_BOB)
        assert fault.struck, "the fault never struck"
    assert removed["status"] == "ok"
    assert len(set(site_rig.keys("alice"))) == 2
    assert set(site_rig.keys("alice")) == set(site_rig.keys("carol")), "both hold the same two keys"
    room = await site_rig.room("r1")
    assert (room["encKey"]["ver"], room["encKey"]["priv"]) in site_rig.keys("carol")
    assert room["encKey"]["ver"] == 1, "a second attempt is no second rotation"
    assert [version for version, _ in site_rig.keys("bob")] == [0]


async def test_the_key_is_not_in_use_while_the_broker_has_not_confirmed_it(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob", "carol")
    async with proxied(site_rig.settings.nats_url[0]) as proxy, site_rig.worker(nats_url=[proxy.url]):
        await site_rig.ask("create", CREATE)
        proxy.fault = stall = Stall(Place(b"event.room.key"))
        request_id = await site_rig.publish("member.remove", REMOVE_BOB)
        await asyncio.wait_for(stall.held.wait(), 10)
        room = await site_rig.room("r1")
        assert room["encKey"]["ver"] == 0, "survivors do not hold version 1 yet"
        assert room["keyRotation"]["staged"]["ver"] == 1
        proxy.fault = None
        proxy.cut()
        stall.released.set()
        assert (await site_rig.result(request_id))["status"] == "ok"
    assert (await site_rig.room("r1"))["encKey"]["ver"] == 1


async def test_a_barrier_across_a_disconnect_does_not_hold(nats_url: str) -> None:
    async with proxied(nats_url) as proxy:
        broker = await brokers.connect(read_settings(nats_url=proxy.url), "test")
        async with broker.barrier():
            await broker.write(b"PUB a 2\r\nhi\r\n")
        with pytest.raises(Unconfirmed):
            await write_and_cut(proxy, broker)
        async with broker.barrier():
            pass
        await broker.close()


async def test_a_write_on_the_next_connection_fails_the_barrier_and_sends_nothing(nats_url: str) -> None:
    async with proxied(nats_url) as proxy:
        broker = await brokers.connect(read_settings(nats_url=proxy.url), "test")
        with pytest.raises(Unconfirmed):
            await write_across_a_reconnect(proxy, broker)
        async with broker.barrier():
            await broker.write(b"PUB a 5\r\nafter\r\n")
        assert b"late" not in proxy.sent, "bytes of a barrier went out without the ones before them"
        await broker.close()


async def write_across_a_reconnect(proxy: Proxy, broker: brokers.Broker) -> None:
    async with broker.barrier():
        await cut(proxy, broker)
        await asyncio.wait_for(broker.until_connected(), 10)
        await broker.write(b"PUB a 4\r\nlate\r\n")


async def test_a_joiners_notice_precedes_the_key_when_the_connection_breaks_between_them(
    site_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site_rig.users("alice", "bob", "carol", "dave")
    publish, interrupted = Publisher.publish_notices, asyncio.Event()
    async with proxied(site_rig.settings.nats_url[0]) as proxy:

        async def lose_notices(publisher: Publisher, entries: Sequence[OutboxEntry]) -> None:
            """Let the connection break, and be back, after the notices and before the key."""
            if interrupted.is_set() or not any(entry.joiners for entry in entries):
                await publish(publisher, entries)
                return
            interrupted.set()
            proxy.fault = swallow_all
            await publish(publisher, entries)
            proxy.fault = None
            await cut(proxy, publisher.broker)
            await asyncio.wait_for(publisher.broker.until_connected(), 10)

        monkeypatch.setattr(Publisher, "publish_notices", lose_notices)
        async with site_rig.worker(nats_url=[proxy.url]):
            await site_rig.ask("create", CREATE)
            await site_rig.ask("member.add", events.add("r1", "dave"))
    received = [item.subject for item in site_rig.received if item.subject.startswith("chat.user.dave.event.")]
    assert interrupted.is_set()
    assert received[0].endswith("subscription.update"), received


async def swallow_all(_chunk: Chunk) -> bytes:
    return b""


async def write_and_cut(proxy: Proxy, broker: brokers.Broker) -> None:
    """Write behind a barrier and let the connection break, and be back, before it ends."""
    async with broker.barrier():
        await broker.write(b"PUB a 2\r\nhi\r\n")
        await cut(proxy, broker)
        await asyncio.wait_for(broker.until_connected(), 10)


async def cut(proxy: Proxy, broker: brokers.Broker) -> None:
    lost = asyncio.Event()
    broker.on_break.add(lost.set)
    proxy.cut()
    await asyncio.wait_for(lost.wait(), 10)


async def test_write_without_a_connection_raises_a_transient_error(nats_url: str) -> None:
    async with proxied(nats_url) as proxy:
        broker = await brokers.connect(read_settings(nats_url=proxy.url), "test")
        proxy.accepting = False
        await cut(proxy, broker)
        with pytest.raises(TransientError, match="not connected"):
            await broker.write(b"PUB a 2\r\nhi\r\n")
        with pytest.raises(Unconfirmed):
            async with broker.barrier():
                pass
        proxy.accepting = True
        await asyncio.wait_for(broker.until_connected(), 10)
        await broker.close()


async def test_pings_overtake_publishes_in_the_client_library(nats_url: str) -> None:
    """The fact behind the barrier; when it changes, the barrier can be simpler. (docs/pitfalls.md, item 1)"""
    async with proxied(nats_url) as proxy:
        client = await nats.connect(proxy.url)
        at = len(proxy.sent)
        for _ in range(100):
            await client.publish("a", b"hi")
        await client.flush()
        assert proxy.sent[at:].startswith(b"PING\r\n"), bytes(proxy.sent[at : at + 40])
        await client.close()


# The library leaves the connection that it gave up for the garbage collector to close.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_connection_that_was_given_up_in_silence_breaks_the_barrier(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While reconnecting, the library may use a connection, give it up and begin another, and tell nobody."""
    async with proxied(nats_url) as proxy:
        broker = await brokers.connect(read_settings(nats_url=proxy.url), "test")
        epochs: list[int] = []
        flush = broker.client.flush

        async def given_up(timeout: int = 10) -> None:  # noqa: ASYNC109 - the library's own signature
            if not epochs:
                epochs.append(broker.connection_epoch)
                assert broker.connected, "a batch could begin here"
                raise nats.errors.FlushTimeoutError
            await flush(timeout)

        monkeypatch.setattr(broker.client, "flush", given_up)
        await cut(proxy, broker)
        await asyncio.wait_for(broker.until_connected(), 20)
        assert not await broker._round_trip(epochs[0]), "what was written before was lost"
        async with broker.barrier():
            pass
        await broker.close()
    gc.collect()


async def test_our_pings_wait_their_turn_behind_what_was_published(nats_url: str) -> None:
    async with proxied(nats_url) as proxy:
        broker = await brokers.connect(read_settings(nats_url=proxy.url), "test")
        at = len(proxy.sent)
        async with broker.barrier():
            for _ in range(100):
                await broker.publish("a", b"hi")
        wire = bytes(proxy.sent[at:])
        assert wire.count(b"PUB a ", 0, wire.index(b"PING\r\n")) == 100, wire
        await broker.close()


async def test_an_answer_that_nobody_waits_for_any_more_does_not_stop_the_client(nats_url: str) -> None:
    broker = await brokers.connect(read_settings(nats_url=nats_url), "test")
    forgotten: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    forgotten.cancel()
    await broker.client.ping(forgotten)
    for _ in range(2):  # the client still reads after the first one
        async with broker.barrier():
            pass
    await broker.close()
