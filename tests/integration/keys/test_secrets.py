"""Invariant 9: no key leaves by the side door. Known bytes stand in for keys and are looked for everywhere."""

import asyncio
import io
import logging
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import bson
import pytest
import structlog
from prometheus_client import generate_latest
from pydantic import SecretStr
from pymongo import AsyncMongoClient, InsertOne

from roomkeys.decisions.decision import Decision, OutboxEntry, RoomChange
from roomkeys.decisions.snapshot import Snapshot
from roomkeys.errors import Rejection, TransientError
from roomkeys.keys import KeyRecord, RoomKey
from roomkeys.membership import Kind, Room, RoomView
from roomkeys.messages.room_key import RoomKeyEvent, Sender
from store.database import connect
from store.leases.lease import Lease
from store.transaction import Bulk, commit
from store.writes.outbox import StoredEntry
from tests.harness import events
from tests.harness.polling import until
from tests.harness.site import Received, Rig, rig
from worker.local.servers import MongoServer, NatsServer
from worker.pipeline.state.applied_batch import AppliedBatch
from worker.settings import WrongSetting, read_settings
from worker.telemetry import logs, metrics

SECRET = bytes(range(0xB0, 0xB0 + 32))
ROTATE = events.rotate("r1")


@dataclass
class Canary:
    """Hands out known keys and remembers them."""

    issued: list[bytes] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def __call__(self, length: int = 32) -> bytes:
        key = b"\xca\xfe" + b"canary\xff\x00" * 3 + next(self.numbers).to_bytes(length - 26, "big")
        self.issued.append(key)
        return key

    def found_in(self, *texts: bytes | str) -> list[str]:
        """Return in which spelling a key stands in one of the texts, with what stands before it."""
        seen = []
        for text in texts:
            data = text if isinstance(text, bytes) else text.encode()
            for key in self.issued:
                for name, spelling in spellings(key).items():
                    at = data.find(spelling)
                    if at >= 0:
                        seen.append(f"{name} after {data[max(at - 80, 0) : at]!r}")
        return seen


def spellings(key: bytes) -> dict[str, bytes]:
    text = {
        "hex": key.hex(),
        "HEX": key.hex().upper(),
        "base64": b64encode(key).decode().rstrip("="),
        "urlsafe base64": urlsafe_b64encode(key).decode().rstrip("="),
        "repr": repr(key)[2:-1],
        "repr in JSON": repr(key)[2:-1].replace("\\", "\\\\"),
        "numbers": ", ".join(map(str, key)),
        "latin-1": key.decode("latin-1"),
    }
    return {"raw": key, **{name: spelling.encode() for name, spelling in text.items()}}


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch) -> Canary:
    made = Canary()
    monkeypatch.setattr("roomkeys.keys.token_bytes", made)
    return made


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Catch all logs, those of libraries included, at the most talkative level the settings know."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    before = logging.getLogger().level
    logging.getLogger().addHandler(handler)
    logs.configure("debug", "json", stream)
    yield stream
    logging.getLogger().removeHandler(handler)
    logging.getLogger().setLevel(before)
    structlog.reset_defaults()


@pytest.fixture
async def town(own_nats: NatsServer, own_mongo: MongoServer, site: str) -> AsyncIterator[Rig]:
    """Set up a site on servers that may be killed and hindered."""
    async with rig(own_nats.url, own_mongo.uri, "secrets", site) as made:
        await made.users("alice", "bob", "carol")
        await made.users("sam", "a b", sectId="s1")
        yield made


async def fail_next(town: Rig, command: str, code: int, times: int) -> None:
    """Let the database fail the next commands of a kind."""
    data = {"failCommands": [command], "errorCode": code, "namespace": "secrets.rooms"}
    await town.db.client.admin.command("configureFailPoint", "failCommand", mode={"times": times}, data=data)


async def live(town: Rig, nats_server: NatsServer) -> None:
    """Live a whole life: create, add, remove, rotate, poison, a database that fails, a broker that dies."""
    room = events.create("r1", "bob", "carol")
    await town.ask("create", room)
    await town.ask("member.add", events.add("r1", orgs=["s1"]))
    await town.ask("member.remove", {**ROTATE, "account": "bob"})
    await town.ask("member.remove", {**ROTATE, "account": "nobody"})
    await town.ask("key.rotate", {**ROTATE, "timestamp": "now"})
    await town.publish("key.rotate", b"not json")
    await fail_next(town, "update", 2, 6)
    await town.ask("key.rotate", ROTATE)
    await fail_next(town, "update", 50, 1)
    await town.ask("key.rotate", ROTATE)
    await town.db.rooms.update_one({"_id": "r1"}, {"$unset": {"encKey": ""}})
    await town.ask("key.rotate", ROTATE)
    owed = [await town.publish("key.rotate", ROTATE) for _ in range(5)]
    await nats_server.kill()
    await nats_server.start()

    await until(lambda: town.nc.is_connected)
    for request_id in owed:
        await town.result(request_id)
    await town.ask("member.remove", {**ROTATE, "orgId": "s1"})


def is_key(item: Received) -> bool:
    return item.subject.endswith(".event.room.key")


async def stored_outside_rooms(town: Rig) -> list[bytes]:
    """Return every document's bytes, without what is `encKey`'s and `keyRotation`'s own."""
    found = []
    for name in await town.db.list_collection_names():
        hidden = {"encKey": 0, "keyRotation": 0} if name == "rooms" else None
        found += [bson.encode(document) async for document in town.db[name].find({}, hidden)]
    return found


async def test_keys_appear_in_key_messages_and_nowhere_else(
    town: Rig, own_nats: NatsServer, canary: Canary, log: io.StringIO
) -> None:
    async with town.worker(log_level="debug"):
        await live(town, own_nats)
        assert canary.found_in(*await stored_outside_rooms(town)) == []
    keys = [item for item in town.received if is_key(item)]
    others = [item for item in town.received if not is_key(item)]
    sent = {key for key in canary.issued if canary.found_in(*(item.raw for item in keys)) and sent_in(keys, key)}
    assert len(sent) >= 6, f"only {len(sent)} of {len(canary.issued)} known keys were sent: the test sees nothing"
    assert {item.subject.split(".")[1] for item in others} == {"user", "room"}
    assert [item for item in others if ".deadletter." in item.subject], "no dead letter was looked at"
    assert [item for item in others if item.body.get("status") == "error"], "no error result was looked at"
    assert "OperationFailure 2" in log.getvalue(), "no error of the database was looked at"
    assert canary.found_in(log.getvalue()) == []
    assert canary.found_in(generate_latest(metrics.REGISTRY)) == []
    assert canary.found_in(*(item.raw for item in others)) == []
    assert canary.found_in(*(repr(sorted(item.headers.items())) for item in town.received)) == []


def sent_in(items: list[Received], key: bytes) -> bool:
    return any(b64encode(key) in item.raw for item in items)


async def test_a_foreign_key_in_the_database_is_not_told_either(
    site_rig: Rig, canary: Canary, log: io.StringIO
) -> None:
    await site_rig.users("alice", "bob")
    foreign = canary()
    async with site_rig.worker():
        room = events.create("r1", "bob")
        await site_rig.ask("create", room)
        await site_rig.db.rooms.update_one({"_id": "r1"}, {"$set": {"encKey": {"priv": foreign, "ver": 9}}})
        await site_rig.ask("key.rotate", ROTATE)
    others = [item.raw for item in site_rig.received if not is_key(item)]
    assert canary.found_in(log.getvalue(), generate_latest(metrics.REGISTRY), *others) == []


def holders() -> dict[str, Any]:
    key = RoomKey(3, SECRET)
    record = KeyRecord(high=3, settled=2, current=key, staged=key, replaced=(key,), highest_seen=3)
    room = Room("r1", "general", Kind.CHANNEL, "site", keys=record)
    change = RoomChange(room, high=3, stage=3)
    entry = StoredEntry("id", OutboxEntry("r1", ()))
    uri = f"mongodb://user:{SECRET.hex()}@127.0.0.1/"
    passwords = {"nats_user": "u", "nats_password": SECRET.hex(), "mongo_password": SECRET.hex()}
    settings = read_settings(nats_url="nats://127.0.0.1:1", mongo_uri=uri, **passwords)
    return {
        "RoomKey": key,
        "KeyRecord": record,
        "RoomKeyEvent": RoomKeyEvent("r1", key),
        "RoomState": RoomView(key, (key,)),
        "Room": room,
        "Snapshot": Snapshot(rooms={"r1": room}),
        "RoomChange": change,
        "Decision": Decision(1, (change,), (entry.content,)),
        "Entry": entry,
        "Work": AppliedBatch([entry], {"r1": room}),
        "Lease": Lease("site", 0, "me", 1, {"session": SECRET}),
        "Settings": settings,
    }


@pytest.mark.parametrize("name", sorted(holders()))
@pytest.mark.parametrize("spelled", [repr, str, "{}".format, "%r".__mod__], ids=["repr", "str", "format", "%r"])
def test_what_holds_a_secret_does_not_show_it(name: str, spelled: Any) -> None:
    holder = holders()[name]
    text = spelled((holder,) if spelled == "%r".__mod__ else holder)
    assert Canary([SECRET]).found_in(text) == []
    assert Canary([SECRET.hex().encode()]).found_in(text) == []


def test_the_canary_would_be_seen_in_every_spelling() -> None:
    for name, spelling in spellings(SECRET).items():
        assert Canary([SECRET]).found_in(b"x " + spelling), name


async def test_a_database_does_not_show_its_uri(mongo_uri: str) -> None:
    database = connect(mongo_uri, "x", username="u", password=SECRET.hex())
    assert SECRET.hex() not in repr(database)
    await database.close()


def test_wrong_settings_do_not_quote_what_they_were() -> None:
    for wrong in ({"mongo_uri": SECRET.hex()}, {"nats_password": SECRET.hex()}, {"nats_url": SECRET.hex()}):
        with pytest.raises(WrongSetting) as caught:
            read_settings(**wrong)
        assert SECRET.hex() not in str(caught.value)


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    "fields",
    [
        {"key": SECRET.hex()},
        {"anything": SECRET},
        {"anything": {"priv": SECRET.hex(), "deep": [(SECRET,)]}},
        {"anything": bytearray(SECRET)},
        {"anything": SecretStr(SECRET.hex())},
        {"anything": RoomKey(1, SECRET)},
        {"anything": [{"encKey": {"priv": SECRET.hex()}}]},
        {"anything": bson.Binary(SECRET)},
        {"privateKey": b64encode(SECRET).decode()},
    ],
    ids=lambda fields: repr(fields)[:30],
)
def test_a_log_line_masks_what_looks_like_a_key(log: io.StringIO, form: str, fields: dict[str, Any]) -> None:
    logs.configure("debug", form, log)
    logs.logger("test").debug("something happened", **fields)
    assert "something happened" in log.getvalue()
    assert Canary([SECRET]).found_in(log.getvalue()) == []


async def test_a_refused_send_does_not_say_what_it_would_have_sent() -> None:
    async def publish(_subject: str, _payload: bytes) -> None:
        raise AssertionError("published")

    sender = Sender(publish, lambda: 0)
    with pytest.raises(Rejection) as caught:
        await sender.send("a b", RoomKeyEvent("r1", RoomKey(1, SECRET)))
    assert Canary([SECRET]).found_in(str(caught.value), repr(caught.value), repr(caught.value.info)) == []


async def test_the_drivers_error_texts_do_quote_keys_so_none_may_be_told(
    mongo_uri: str, new_database: str, log: io.StringIO
) -> None:
    """What `store/errors.py` is for; and what it lets through names no key."""
    over = connect(mongo_uri, new_database)
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongo_uri, serverMonitoringMode="poll")
    try:
        await over["rooms"].create_index("keyRotation.staged.priv", unique=True)
        document = {"keyRotation": {"staged": {"priv": SECRET}}}
        await client[new_database].rooms.insert_one(dict(document))
        with pytest.raises(TransientError) as caught:  # noqa: PT012 - what fails is up to the driver
            async with asyncio.timeout(10):
                session = await over.start_session()
                await commit(over, session, [Bulk("rooms", [InsertOne(dict(document))])])
        error: BaseException | None = caught.value
        while error is not None:
            assert Canary([SECRET]).found_in(str(error), repr(error), logs.where(error)) == [], type(error)
            error = error.__cause__
        assert log.getvalue() == ""
        await session.end_session()
    finally:
        await client.close()
        await over.close()
