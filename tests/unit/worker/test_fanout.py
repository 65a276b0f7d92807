"""Fan-out without a server: one serialisation, one payload, bounded chunks, nobody twice and nobody missing."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import orjson
import pytest

from roomkeys.keys import RoomKey
from roomkeys.messages.frame import frame
from roomkeys.messages.room_key import RoomKeyEvent, marshal
from worker.broker.fanout import CHUNK_ACCOUNTS, CHUNK_BYTES, Fanout, chunks
from worker.limits import Limits
from worker.pipeline.deliver import Publisher
from worker.telemetry import metrics

KEY = RoomKey(3, bytes(range(32)))


class Wire:
    """Takes framed bytes as the broker does, one turn of the event loop each; counts how many are under way."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.under_way = self.most_under_way = 0

    async def write(self, framed: bytes) -> None:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        self.written.append(framed)

    def accounts(self) -> list[str]:
        lines = b"".join(self.written).split(b"\r\n")
        return [line.split(b".")[2].decode() for line in lines if line.startswith(b"PUB ")]


def courier(wire: Any) -> Publisher:
    return Publisher(wire, None, Fanout(wire, 4), "site-a", Limits())  # type: ignore[arg-type]  # no database is asked


def page_of(count: int) -> dict[str, list[str]]:
    return {"r1": [f"user-{number:06d}" for number in range(count)]}


async def test_one_fanout_serialises_once_and_frames_one_payload_object(monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of(3 * CHUNK_ACCOUNTS + 1)
    dumped, payloads = [], []
    serialise = orjson.dumps

    def dumps(value: object) -> bytes:
        dumped.append(value)
        return serialise(value)

    def framing(accounts: list[str], payload: bytes) -> bytes:
        payloads.append(payload)
        return frame(accounts, payload)

    async def pages(_database: object, _lease: object, room_ids: Iterable[str], **_sizes: int) -> AsyncIterator[Any]:
        assert list(room_ids) == ["r1"]
        yield page

    monkeypatch.setattr("roomkeys.messages.room_key.orjson.dumps", dumps)
    monkeypatch.setattr("worker.broker.fanout.frame", framing)
    monkeypatch.setattr("worker.pipeline.deliver.pages", pages)
    wire = Wire()
    await courier(wire).fan_out_keys({"r1": KEY}, {}, None, 7)  # type: ignore[arg-type]  # no lease is looked at
    assert len(dumped) == 1
    assert len(payloads) == 4
    assert len({id(payload) for payload in payloads}) == 1, "every chunk frames the same object"
    assert wire.accounts() == page["r1"]


async def test_no_more_chunks_are_in_flight_than_allowed() -> None:
    wire = Wire()
    fanout = Fanout(wire, 2)  # type: ignore[arg-type]  # it only writes
    payloads = {"r1": marshal(RoomKeyEvent("r1", KEY), 7)}
    await asyncio.gather(*(fanout.send(payloads, page_of(CHUNK_ACCOUNTS * 3)) for _ in range(5)))
    assert wire.most_under_way == 2
    assert len(wire.accounts()) == 5 * 3 * CHUNK_ACCOUNTS


def test_many_small_rooms_share_chunks_and_a_big_one_is_cut() -> None:
    payload = marshal(RoomKeyEvent("r1", KEY), 7)
    small = {f"r{number}": ["alice", "bob"] for number in range(100)}
    assert len(list(chunks(dict.fromkeys(small, payload), small))) == 1
    big = list(chunks({"r1": payload}, page_of(20_000)))
    assert len(big) > 1
    assert max(map(len, big)) < 2 * max(CHUNK_BYTES, CHUNK_ACCOUNTS * (len(payload) + 60))


def test_accounts_that_are_no_tokens_are_left_out_and_counted() -> None:
    before = metrics.REFUSED._value.get()
    payload = marshal(RoomKeyEvent("r1", KEY), 7)
    (chunk,) = chunks({"r1": payload}, {"r1": ["alice", "a\r\nPUB x 0\r\n", "x.bot", "b c", None, "bob"]})
    assert chunk == frame(["alice", "bob"], payload)
    assert metrics.REFUSED._value.get() == before + 3


def test_a_room_without_recipients_writes_nothing() -> None:
    assert list(chunks({"r1": b"{}"}, {"r1": []})) == []
