"""What protects the key service and its keys: reply addresses, limits, failures, logs without keys."""

import asyncio
import io
import math
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import orjson
import pytest
from bson.datetime_ms import DatetimeMS
from nats.aio.msg import Msg
from prometheus_client import generate_latest

from roomkeys import subjects
from store.database import Driver
from tests.harness.key_service import Asking, room, secret, service
from tests.harness.polling import until
from tests.harness.site import PATIENCE, Rig, rig
from worker.limits import Limits
from worker.local.servers import MongoServer, NatsServer
from worker.telemetry import logs, metrics

BURST = Limits().requests_burst


@pytest.fixture
async def asking(site_rig: Rig) -> AsyncIterator[Asking]:
    async with service(site_rig) as made:
        await made.rooms(room("r1", 7, past=[6]))
        made.commands.take()
        yield made


def count_of(endpoint: str, outcome: str) -> float:
    return float(metrics.REQUESTS.labels(endpoint, outcome)._value.get())


FORBIDDEN_REPLIES = [
    "",
    "chat.user.mallory.event.room.key",
    "$JS.API.STREAM.NAMES",
    "_INBOXES.x",
    "_INBOX_app.x",
    "_INBOX.room-worker.0123456789abcdef.x",
    "_INBOX." + ".".join(["x" * 200] * 6),
]


async def test_requests_with_forbidden_reply_addresses_are_ignored_at_no_cost(asking: Asking) -> None:
    received: list[Msg] = []

    async def receive(message: Msg) -> None:
        received.append(message)

    for reply in filter(None, FORBIDDEN_REPLIES):
        await asking.client.subscribe(reply, cb=receive)
    before = count_of("key-get", "unanswered")
    for reply in FORBIDDEN_REPLIES:
        for subject in (subjects.key_get(asking.site, "bob", "r1"), "$SRV.PING.room-keys"):
            await asking.client.publish(subject, b"", reply=reply)
    await asking.get("bob", "nowhere")  # the reply comes after all requests above were taken
    assert count_of("key-get", "unanswered") == before + len(FORBIDDEN_REPLIES)
    assert asking.commands.take() == Counter({"find rooms": 1, "find subscriptions": 1}), "of the last request only"
    await asking.client.flush()
    answers = [item for item in received if b"room-keys" in item.data or b"privateKey" in item.data]
    assert [item.subject for item in answers] == []


async def test_other_reply_prefixes_can_be_allowed(site_rig: Rig) -> None:
    client = await nats.connect(site_rig.settings.nats_url[0], inbox_prefix=b"_INBOX_app")
    async with service(site_rig, key_service_replies=["_INBOX_app."]) as asking:
        await asking.rooms(room("r1", 7))
        subject = subjects.key_get(asking.site, "bob", "r1")
        assert orjson.loads((await client.request(subject, timeout=PATIENCE)).data)["version"] == 7
    await client.close()


@pytest.mark.parametrize("size", [0, 1_000, 100_000], ids=["empty", "small", "large"])
async def test_flood_of_one_account_gets_few_refusals_and_delays_no_other(asking: Asking, size: int) -> None:
    outcomes = ("ok", "too_many_requests", "dropped")
    before = [count_of("key-get", outcome) for outcome in outcomes]
    inbox = asking.client.new_inbox()
    answers = await asking.client.subscribe(inbox)
    for _ in range(requests := 400):
        await asking.client.publish(subjects.key_get(asking.site, "bob", "r1"), b" " * size, reply=inbox)
    assert (await asking.get("alice", "r1"))["version"] == 7
    ok, refused, dropped = (count_of("key-get", outcome) - old for outcome, old in zip(outcomes, before, strict=True))
    assert 1 <= refused < 20
    assert dropped > requests - BURST - 100
    await asking.client.flush()
    reasons = [orjson.loads((await answers.next_msg()).data).get("reason") for _ in range(answers.pending_msgs)]
    assert reasons.count("rate_limited") == refused
    assert ok <= len(reasons) + 1


async def test_requests_without_a_reply_address_are_charged_too(asking: Asking) -> None:
    before = count_of("key-get", "dropped")
    for _ in range(3 * BURST):
        await asking.client.publish(subjects.key_get(asking.site, "bob", "r1"))
    await asking.get("alice", "r1")
    assert count_of("key-get", "dropped") - before > BURST


async def test_flood_of_discovery_gets_few_answers(asking: Asking) -> None:
    inbox = asking.client.new_inbox()
    answers = await asking.client.subscribe(inbox)
    for _ in range(1_000):
        await asking.client.publish("$SRV.STATS.room-keys", reply=inbox)
    await asking.get("alice", "r1")
    await asking.client.flush()
    assert 1 <= answers.pending_msgs < 300


IMPORTS = """
accounts {
  SITE { users [{user: site, password: x}], jetstream: enabled, exports [{service: "chat.user.*.request.>"}] }
  MEMBERS {
    users [{user: member, password: x}]
    imports [{service: {account: SITE, subject: "chat.user.*.request.>"}}]
  }
}
"""


async def test_requests_through_a_service_import_are_answered_if_allowed_and_logged_once_if_not(
    tmp_path: Path, mongo_uri: str, database: str, site: str
) -> None:
    async with NatsServer(tmp_path / "nats", config=IMPORTS) as server:
        url, log = server.url.replace("nats://", "nats://site:x@"), io.StringIO()
        logs.configure("info", "json", log)
        member = await nats.connect(server.url.replace("nats://", "nats://member:x@"))
        async with rig(url, mongo_uri, database, site) as made:
            subject = subjects.key_get(site, "bob", "r1")
            async with service(made) as asking:
                await asking.rooms(room("r1", 7))
                before = count_of("key-get", "unanswered")
                for _ in range(3):
                    await member.publish(subject, reply=member.new_inbox())
                await member.flush()
                await until(lambda: count_of("key-get", "unanswered") == before + 3)
            async with service(made, key_service_replies=["_INBOX.", "_R_."]):
                assert orjson.loads((await member.request(subject, timeout=PATIENCE)).data)["version"] == 7
        await member.close()
    assert log.getvalue().count("service import") == 1


async def test_2000_requests_for_one_key_share_few_database_commands(site_rig: Rig) -> None:
    accounts = [f"user-{number:04d}" for number in range(2_000)]
    clients = [await nats.connect(site_rig.settings.nats_url[0]) for _ in range(4)]
    async with service(site_rig) as asking:
        await asking.rooms(room("r1", 7, past=[6]), members=accounts[:1_900])
        asking.commands.take()

        async def ask(number: int) -> tuple[int, str] | str:
            subject = subjects.key_get(asking.site, accounts[number], "r1")
            body = orjson.dumps({"version": 6 + number % 2})
            answer = orjson.loads((await clients[number % 4].request(subject, body, timeout=PATIENCE)).data)
            return answer.get("reason") or (answer["version"], answer["privateKey"])

        answers = await asyncio.gather(*(ask(number) for number in range(2_000)))
        commands = asking.commands.take()
    keys = [(version, b64encode(secret("r1", version)).decode()) for version in (6, 7)]
    assert answers[:1_900] == keys * 950
    assert set(answers[1_900:]) == {"not_room_member"}
    assert set(commands) == {"find rooms", "find subscriptions"}
    assert commands.total() <= 60, commands
    for client in clients:
        await client.close()


async def test_2000_simultaneous_syncs_share_few_database_commands(site_rig: Rig) -> None:
    accounts = [f"user-{number:04d}" for number in range(2_000)]
    async with service(site_rig) as asking:
        for group in range(20):
            await asking.rooms(room(f"r{group}", 1), members=accounts[group::20])
        asking.commands.take()
        answers = await asyncio.gather(*(asking.sync(account, b"") for account in accounts))
        commands = asking.commands.take()
    assert [[item["roomId"] for item in answer["results"]] for answer in answers] == [
        [f"r{number % 20}"] for number in range(2_000)
    ]
    assert commands.total() <= 150, commands


async def test_requests_beyond_the_pairs_of_one_read_need_several_reads(site_rig: Rig) -> None:
    site_rig.limit(pairs_per_read=5)
    accounts = [f"user-{number:03d}" for number in range(100)]
    async with service(site_rig) as asking:
        await asking.rooms(room("r1", 1), members=accounts)
        answers = await asyncio.gather(*(asking.get(account, "r1") for account in accounts))
        batch = await asking.batch("user-000", {"requests": [{"roomId": f"x{n}"} for n in range(50)]})
    assert [answer["version"] for answer in answers] == [1] * 100
    assert batch["totalFailed"] == 50
    assert asking.commands.take()["find rooms"] >= 20


async def test_requests_for_many_versions_need_several_reads(site_rig: Rig) -> None:
    site_rig.limit(versions_per_read=5)
    accounts = [f"user-{number:03d}" for number in range(100)]
    async with service(site_rig) as asking:
        await asking.rooms(room("r1", 7, past=[6]), members=accounts)
        asking.commands.take()
        same = await asyncio.gather(*(asking.get(account, "r1", {"version": 6}) for account in accounts))
        together = asking.commands.take()["find rooms"]
        each = enumerate(accounts, 10)
        others = await asyncio.gather(*(asking.get(account, "r1", {"version": at}) for at, account in each))
        apart = asking.commands.take()["find rooms"]
    assert {answer["version"] for answer in same} == {6}
    assert {answer["reason"] for answer in others} == {"key_not_available"}
    assert together < 20 <= apart


@asynccontextmanager
async def impatient(made: Rig, driver: Driver = "pymongo", **limits: float) -> AsyncIterator[Asking]:
    """Run the key service with other limits."""
    made.limit(**limits)
    async with service(made, driver) as asking:
        yield asking


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_requests_are_answered_unavailable_while_the_database_is_down(
    nats_url: str, own_mongo: MongoServer, site: str, driver: Driver
) -> None:
    async with rig(nats_url, own_mongo.uri, "chat", site) as made, impatient(made, driver, read_s=0.3) as asking:
        await asking.rooms(room("r1", 7))
        away = {"failCommands": ["find", "aggregate"], "closeConnection": True, "appName": "room-worker"}
        fail = made.db.client.admin.command
        await fail("configureFailPoint", "failCommand", mode="alwaysOn", data=away)
        for answer in await asyncio.gather(
            asking.get("bob", "r1"),
            asking.batch("bob", {"requests": [{"roomId": "r1"}]}),
            asking.sync("bob", b""),
            asking.status("bob", {"roomIds": ["r1"]}),
        ):
            assert (answer["code"], answer["reason"]) == ("unavailable", "database_unavailable")
        await fail("configureFailPoint", "failCommand", mode="off")
        while (answer := await asking.get("bob", "r1")).get("reason") == "database_unavailable":
            pass  # the driver reconnects
        assert answer["version"] == 7


async def test_request_times_out_when_the_database_does_not_answer(
    nats_url: str, own_mongo: MongoServer, site: str
) -> None:
    """The timeout of the service is independent of the driver, whose threads may all be busy."""
    async with rig(nats_url, own_mongo.uri, "chat", site) as made, impatient(made, reply_s=0.3) as asking:
        slow = {"failCommands": ["find"], "blockConnection": True, "blockTimeMS": 1_500, "appName": "room-worker"}
        await made.db.client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=slow)
        assert (await asking.get("bob", "r1"))["reason"] == "database_unavailable"


async def test_unexpected_error_is_answered_internal_without_its_text(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = secret("r1", 7).hex()

    def fail(*_args: Any) -> None:
        raise RuntimeError(key)

    log = io.StringIO()
    logs.configure("debug", "json", log)
    monkeypatch.setattr("store.reads.key_lookups.room_view", fail)
    reply = await asking.client.request(subjects.key_get(asking.site, "bob", "r1"), timeout=PATIENCE)
    answer = orjson.loads(reply.data)
    assert (answer["code"], answer["reason"]) == ("internal", "internal")
    stats = await asking.request("$SRV.STATS.room-keys")
    assert "database read failed" in log.getvalue()
    assert key not in f"{answer} {reply.headers} {stats} {log.getvalue()}"


async def test_overloaded_service_refuses_at_once(site_rig: Rig) -> None:
    async with impatient(site_rig, requests_in_flight=0) as asking:
        assert (await asking.get("bob", "r1"))["reason"] == "overloaded"
    async with impatient(site_rig, requests_in_flight=1, request_bytes=10) as asking:
        await asking.rooms(room("r1", 7))
        refused = await asyncio.gather(*(asking.get("bob", "r1", b" " * 11) for _ in range(BURST // 2)))
        assert {answer["reason"] for answer in refused} == {"overloaded"}
        assert (await asking.get("bob", "r1", b"{}"))["version"] == 7


async def test_reply_larger_than_the_maximum_payload_becomes_an_error(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(asking.broker), "max_payload", 500)
    assert (await asking.batch("bob", {"requests": [{"roomId": "r1"}] * 10}))["reason"] == "internal"


async def test_keys_of_replies_are_in_no_log_line_and_no_metric(site_rig: Rig) -> None:
    log = io.StringIO()
    logs.configure("debug", "json", log)
    async with service(site_rig) as asking:
        await asking.rooms(room("r1", 7))
        answer = await asking.get("bob", "r1")
        await asking.batch("bob", {"requests": [{"roomId": "r1"}, {"roomId": "r1", "version": "x"}, 7]})
        await asking.sync("bob", b"")
    seen = log.getvalue() + generate_latest(metrics.REGISTRY).decode()
    assert answer["privateKey"] not in seen
    assert secret("r1", 7).hex() not in seen


async def test_service_can_be_discovered_and_reports_its_counts(asking: Asking) -> None:
    site = asking.site
    await asking.get("bob", "r1")
    await asking.get("bob", "nowhere")

    async def discover(verb: str) -> dict[str, Any]:
        """Ask all services, and return the answer for this site."""
        inbox = asking.client.new_inbox()
        listening = await asking.client.subscribe(inbox)
        await asking.client.publish(f"$SRV.{verb}", reply=inbox)
        async with asyncio.timeout(PATIENCE):
            async for message in listening.messages:
                document: dict[str, Any] = orjson.loads(message.data)
                if document["metadata"] == {"site": site}:
                    await listening.unsubscribe()
                    return document
        raise AssertionError("unreachable")

    ping, info, stats = [await discover(verb) for verb in ("PING", "INFO", "STATS")]
    assert {(item["name"], item["version"], item["id"]) for item in (ping, info, stats)} == {
        ("room-keys", "0.1.0", ping["id"])
    }
    assert [item["type"].split(".")[-1] for item in (ping, info, stats)] == [
        "ping_response",
        "info_response",
        "stats_response",
    ]
    assert {item["name"]: (item["subject"], item["queue_group"]) for item in info["endpoints"]} == {
        "key-get": (f"chat.user.*.request.room.*.{site}.key.get", "room-keys"),
        "keys-batch": (f"chat.user.*.request.rooms.{site}.keys.batch", "room-keys"),
        "keys-sync": (f"chat.user.*.request.rooms.{site}.keys.sync", "room-keys"),
        "status-batch": (f"chat.user.*.request.rooms.{site}.status.batch", "room-keys"),
    }
    counted = stats["endpoints"][0]
    assert (counted["num_requests"], counted["num_errors"], counted["last_error"]) == (
        2,
        1,
        "forbidden: not_room_member",
    )
    assert counted["processing_time"] >= counted["average_processing_time"] > 0
    assert await asking.request(f"$SRV.PING.room-keys.{ping['id']}") == ping


async def test_replicas_share_requests_and_answer_each_once(site_rig: Rig) -> None:
    async with service(site_rig) as one, service(site_rig) as other:
        await one.rooms(room("r1", 7))
        one.commands.take()
        inbox = site_rig.nc.new_inbox()
        listening = await site_rig.nc.subscribe(inbox)
        for _ in range(60):
            await site_rig.nc.publish(subjects.key_get(site_rig.site, "bob", "r1"), reply=inbox)
        for _ in range(60):
            await listening.next_msg(timeout=PATIENCE)
        shares = [asking.commands.take()["find rooms"] for asking in (one, other)]
        await site_rig.nc.flush()
        assert (listening.pending_msgs, min(shares) > 0) == (0, True), shares


async def test_requests_in_flight_are_answered_before_the_service_stops(
    nats_url: str, own_mongo: MongoServer, site: str
) -> None:
    async with rig(nats_url, own_mongo.uri, "chat", site) as made:
        async with service(made) as asking:
            await asking.rooms(room("r1", 7))
            slow = {"failCommands": ["find"], "blockConnection": True, "blockTimeMS": 300}
            data = {**slow, "appName": "room-worker"}
            await made.db.client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=data)
            asked = [asyncio.ensure_future(asking.get(account, "r1")) for account in ("alice", "bob", "carol")]
            asking.commands.take()
            async with asyncio.timeout(PATIENCE):
                while not asking.commands.sent:  # noqa: ASYNC110 - the listener of the driver has no event
                    await asyncio.sleep(0.005)
        answers = await asyncio.gather(*asked)
    assert [answer.get("version") for answer in answers] == [7, 7, None]


@pytest.mark.parametrize(
    "malformed",
    [
        {"userCount": math.nan},
        {"appCount": math.inf},
        {"userCount": 1e300},
        {"encKey.prevExpiresAt": DatetimeMS(2**60)},
    ],
    ids=["nan", "inf", "huge", "date"],
)
async def test_malformed_fields_of_one_room_fail_no_other_room(asking: Asking, malformed: dict[str, Any]) -> None:
    await asking.rooms(room("good", 7), room("odd", 3), members=["alice"])
    await asking.database["rooms"].update_one({"_id": "odd"}, {"$set": malformed})
    both = {"roomIds": ["good", "odd", ""]}
    batch = await asking.batch("alice", {"requests": [{"roomId": "good"}, {"roomId": "odd"}]})
    assert [result["version"] for result in batch["results"]] == [7, 3]
    states = await asking.status("alice", both)
    assert [states[room_id]["member"] for room_id in both["roomIds"]] == [True, True, False]
