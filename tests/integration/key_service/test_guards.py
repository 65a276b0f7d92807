"""What keeps the key service safe: reply addresses, limits, servers that are away, and nothing in the logs."""

import asyncio
import io
import math
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
from tests.harness.site import PATIENCE, Rig, rig
from worker.key_service.rate_limit import BURST
from worker.local.servers import MongoServer
from worker.telemetry import logs, metrics


@pytest.fixture
async def asking(site_rig: Rig) -> AsyncIterator[Asking]:
    async with service(site_rig) as made:
        await made.rooms(room("r1", 7, past=[6]))
        made.commands.take()
        yield made


def answered(endpoint: str, outcome: str) -> float:
    return float(metrics.REQUESTS.labels(endpoint, outcome)._value.get())


ELSEWHERE = [
    "",
    "chat.user.mallory.event.room.key",
    "$JS.API.STREAM.NAMES",
    "_INBOXES.x",
    "_INBOX_app.x",
    "_INBOX." + ".".join(["x" * 200] * 6),
]


async def test_a_request_is_answered_below_the_allowed_prefixes_only_and_else_costs_nothing(
    asking: Asking,
) -> None:
    heard: list[Msg] = []

    async def hear(message: Msg) -> None:
        heard.append(message)

    for reply in filter(None, ELSEWHERE):
        await asking.client.subscribe(reply, cb=hear)
    before = answered("key-get", "unanswered")
    for reply in ELSEWHERE:
        for subject in (subjects.key_get(asking.site, "bob", "r1"), "$SRV.PING.room-keys"):
            await asking.client.publish(subject, b"", reply=reply)
    await asking.get("bob", "nowhere")  # answered after the others
    assert answered("key-get", "unanswered") == before + len(ELSEWHERE)
    assert asking.commands.take() == Counter({"find rooms": 1, "find subscriptions": 1}), "those of the last one"
    await asking.client.flush()
    assert [item.subject for item in heard if b"room-keys" in item.data or b"privateKey" in item.data] == []


async def test_other_reply_prefixes_can_be_allowed(site_rig: Rig) -> None:
    client = await nats.connect(site_rig.settings.nats_url[0], inbox_prefix=b"_INBOX_app")
    async with service(site_rig, key_service_replies=["_INBOX_app."]) as asking:
        await asking.rooms(room("r1", 7))
        subject = subjects.key_get(asking.site, "bob", "r1")
        assert orjson.loads((await client.request(subject, timeout=PATIENCE)).data)["version"] == 7
    await client.close()


async def test_an_account_that_asks_too_often_is_refused_and_no_other(asking: Asking) -> None:
    answers = await asyncio.gather(*(asking.get("bob", "r1") for _ in range(300)))
    refused = [answer for answer in answers if "code" in answer]
    assert {(item["code"], item["reason"]) for item in refused} == {("too_many_requests", "rate_limited")}
    assert 100 <= len(answers) - len(refused) < 300
    assert (await asking.get("alice", "r1"))["version"] == 7


async def test_two_thousand_members_who_miss_one_key_cost_few_commands(site_rig: Rig) -> None:
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


async def test_two_thousand_clients_that_catch_up_at_once_cost_few_commands(site_rig: Rig) -> None:
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


async def test_more_than_one_read_carries_is_read_by_several(site_rig: Rig) -> None:
    site_rig.limit(pairs_per_read=5)
    accounts = [f"user-{number:03d}" for number in range(100)]
    async with service(site_rig) as asking:
        await asking.rooms(room("r1", 1), members=accounts)
        answers = await asyncio.gather(*(asking.get(account, "r1") for account in accounts))
        batch = await asking.batch("user-000", {"requests": [{"roomId": f"x{n}"} for n in range(50)]})
    assert [answer["version"] for answer in answers] == [1] * 100
    assert batch["totalFailed"] == 50
    assert asking.commands.take()["find rooms"] >= 20


async def test_a_read_looks_for_few_versions_however_many_ask_for_one_of_them(site_rig: Rig) -> None:
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
async def test_while_the_database_is_away_requests_are_answered_unavailable_and_afterwards_again(
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


async def test_a_database_that_never_answers_keeps_nobody_waiting(
    nats_url: str, own_mongo: MongoServer, site: str
) -> None:
    """Also where the driver itself would wait on, its threads being taken."""
    async with rig(nats_url, own_mongo.uri, "chat", site) as made, impatient(made, reply_s=0.3) as asking:
        slow = {"failCommands": ["find"], "blockConnection": True, "blockTimeMS": 1_500, "appName": "room-worker"}
        await made.db.client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=slow)
        assert (await asking.get("bob", "r1"))["reason"] == "database_unavailable"


async def test_what_nobody_foresaw_is_internal_and_says_no_more(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = secret("r1", 7).hex()

    def stumble(*_args: Any) -> None:
        raise RuntimeError(key)

    log = io.StringIO()
    logs.configure("debug", "json", log)
    monkeypatch.setattr("store.reads.key_lookups.room_state", stumble)
    reply = await asking.client.request(subjects.key_get(asking.site, "bob", "r1"), timeout=PATIENCE)
    answer = orjson.loads(reply.data)
    assert (answer["code"], answer["reason"]) == ("internal", "internal")
    stats = await asking.request("$SRV.STATS.room-keys")
    assert "database read failed" in log.getvalue()
    assert key not in f"{answer} {reply.headers} {stats} {log.getvalue()}"


async def test_more_than_can_be_in_hand_is_refused_at_once(site_rig: Rig) -> None:
    async with impatient(site_rig, requests_in_hand=0) as asking:
        assert (await asking.get("bob", "r1"))["reason"] == "overloaded"
    async with impatient(site_rig, requests_in_hand=1, request_bytes=10) as asking:
        await asking.rooms(room("r1", 7))
        refused = await asyncio.gather(*(asking.get("bob", "r1", b" " * 11) for _ in range(2 * BURST)))
        assert {answer["reason"] for answer in refused} == {"overloaded"}
        assert (await asking.get("bob", "r1", b"{}"))["version"] == 7, "the rate limit was not charged"


async def test_an_answer_that_no_message_holds_is_an_error_and_not_a_silence(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(asking.broker), "max_payload", 500)
    assert (await asking.batch("bob", {"requests": [{"roomId": "r1"}] * 10}))["reason"] == "internal"


async def test_keys_are_in_the_answers_and_in_no_log_line_and_no_metric(site_rig: Rig) -> None:
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


async def test_the_service_is_found_and_counted_as_any_micro_service_is(asking: Asking) -> None:
    site = asking.site
    await asking.get("bob", "r1")
    await asking.get("bob", "nowhere")

    async def all_of(verb: str) -> dict[str, Any]:
        """Ask all services that there are, and return this site's answer."""
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

    ping, info, stats = [await all_of(verb) for verb in ("PING", "INFO", "STATS")]
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


async def test_replicas_share_the_requests_each_is_answered_once(site_rig: Rig) -> None:
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


async def test_requests_in_hand_are_answered_before_the_service_ends(
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
                while not asking.commands.seen:  # noqa: ASYNC110 - the driver tells nobody else
                    await asyncio.sleep(0.005)
        answers = await asyncio.gather(*asked)
    assert [answer.get("version") for answer in answers] == [7, 7, None]


@pytest.mark.parametrize(
    "odd",
    [
        {"userCount": math.nan},
        {"appCount": math.inf},
        {"userCount": 1e300},
        {"encKey.prevExpiresAt": DatetimeMS(2**60)},
    ],
    ids=["nan", "inf", "huge", "date"],
)
async def test_what_another_program_wrote_in_one_room_fails_no_other(asking: Asking, odd: dict[str, Any]) -> None:
    await asking.rooms(room("good", 7), room("odd", 3), members=["alice"])
    await asking.database["rooms"].update_one({"_id": "odd"}, {"$set": odd})
    both = {"roomIds": ["good", "odd", ""]}
    batch = await asking.batch("alice", {"requests": [{"roomId": "good"}, {"roomId": "odd"}]})
    assert [result["version"] for result in batch["results"]] == [7, 3]
    states = await asking.status("alice", both)
    assert [states[room_id]["member"] for room_id in both["roomIds"]] == [True, True, False]
