"""Denials: what the broker does not let the worker publish is not confirmed, and holds up nobody else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from tests.faults.machinery.restricted import KEYS, USER, Restricted, denied, not_allowed, restricted
from tests.harness import events
from tests.harness.polling import until, until_equal
from tests.harness.site import Rig
from worker.cli.check.nats import check_nats
from worker.local.ports import free_port
from worker.telemetry import metrics

CREATE = events.create("r1", "bob", "carol")
REMOVE_BOB = events.remove("r1", account="bob")
NOTHING: dict[str, Any] = {}
"""Permissions that deny nothing."""

ALL_DENIED = {"deny": denied(), "no allow": not_allowed()}
SOME_DENIED = {"deny": denied("carol"), "no allow": not_allowed("alice", "bob", "dave", "erin")}
ROOM_DENIED = {"deny": denied("alice", "bob", "carol"), "no allow": not_allowed("dave", "erin")}


@pytest.fixture
async def at(tmp_path: Path, mongo_uri: str, database: str, site: str) -> AsyncIterator[Restricted]:
    """Set up a site whose worker may do everything, for now."""
    async with restricted(tmp_path, mongo_uri, database, site, NOTHING) as made:
        yield made


@asynccontextmanager
async def working(at: Restricted, **limits: float) -> AsyncIterator[Rig]:
    """Run a worker with one partition that logs in as the restricted user."""
    at.made.limit(denied_retry_s=0.2, **limits)
    async with at.made.worker(**USER):
        await at.made.until_owned()
        yield at.made


async def until_denied(interruptions: float) -> None:
    """Wait until keys were denied to a room since then."""
    await until(lambda: denials() > interruptions)


def denials() -> float:
    return float(metrics.INTERRUPTIONS.labels("denied")._value.get())


def denied_keys() -> float:
    return float(metrics.DENIED.labels("key")._value.get())


@pytest.mark.parametrize("permissions", ALL_DENIED.values(), ids=ALL_DENIED)
@pytest.mark.parametrize("large", [False, True], ids=["small room", "large room"])
async def test_key_that_reaches_nobody_is_not_used_until_the_broker_allows_it(
    at: Restricted, permissions: dict[str, Any], *, large: bool
) -> None:
    limits = {"large_room_members": 2, "page_accounts": 2, "window_accounts": 1} if large else {}
    async with working(at, **limits) as made:
        await made.ask("create", CREATE)
        await at.permit(permissions)
        before = denials()
        removed = await made.publish("member.remove", REMOVE_BOB)
        await until_denied(before)
        assert (await made.room("r1"))["encKey"]["ver"] == 0
        assert removed not in made.results
        await at.permit(NOTHING)
        assert (await made.result(removed))["status"] == "ok"
        assert (await made.room("r1"))["encKey"]["ver"] == 1
        assert [version for version, _ in made.keys("carol")] == [0, 1]
        assert [version for version, _ in made.keys("bob")] == [0]


@pytest.mark.parametrize("permissions", ROOM_DENIED.values(), ids=ROOM_DENIED)
async def test_room_that_is_denied_holds_up_no_other_room_of_its_batch(
    at: Restricted, permissions: dict[str, Any]
) -> None:
    async with working(at) as made:
        await at.permit(permissions)
        before, keys_before = denials(), denied_keys()
        asked = await made.publish("create", CREATE)
        other = events.create("r2", "erin") | {"requesterAccount": "dave", "requesterId": "u-dave"}
        assert (await made.ask("create", other))["status"] == "ok"
        await until_denied(before)
        rotated = await made.publish("key.rotate", events.rotate("r1"))
        assert (await made.ask("key.rotate", events.rotate("r2")))["status"] == "ok"
        assert {asked, rotated}.isdisjoint(made.results)
        assert "encKey" not in await made.room("r1")
        assert denied_keys() >= keys_before + 4
        await at.permit(NOTHING)
        assert [(await made.result(request_id))["status"] for request_id in (asked, rotated)] == ["ok", "ok"]
        assert (await made.room("r1"))["encKey"]["ver"] == 1


@pytest.mark.parametrize("permissions", SOME_DENIED.values(), ids=SOME_DENIED)
async def test_single_denied_recipient_is_counted_and_named_and_holds_up_nobody(
    at: Restricted, permissions: dict[str, Any]
) -> None:
    async with working(at) as made:
        await at.permit(permissions)
        before = denied_keys()
        with capture_logs() as lines:
            assert (await made.ask("create", CREATE))["status"] == "ok"
        named = [line["accounts"] for line in lines if line["event"] == "the broker denied room keys"]
        assert named == [["carol"]]
        assert denied_keys() == before + 1
        assert made.keys("carol") == []
        assert (await made.ask("member.remove", REMOVE_BOB))["status"] == "ok"
        assert (await made.room("r1"))["encKey"]["ver"] == 1


@pytest.mark.parametrize("permissions", ALL_DENIED.values(), ids=ALL_DENIED)
async def test_joiner_gets_the_key_and_the_result_once_the_broker_allows_it(
    at: Restricted, permissions: dict[str, Any]
) -> None:
    async with working(at) as made:
        await made.ask("create", CREATE)
        await at.permit(permissions)
        before = denials()
        added = await made.publish("member.add", events.add("r1", "dave"))
        await until_denied(before)
        again = await made.publish("member.add", events.add("r1", "erin"))
        rotated = await made.publish("key.rotate", events.rotate("r1"))
        await made.until(lambda: made.of("chat.user.erin.event.subscription.update"))
        assert {added, again, rotated}.isdisjoint(made.results)
        await at.permit(NOTHING)
        for request_id in (added, again, rotated):
            assert (await made.result(request_id))["status"] == "ok"
        assert [version for version, _ in made.keys("dave")] == [0, 1]
        assert [version for version, _ in made.keys("erin")][-1] == 1
        assert (await made.room("r1"))["encKey"]["ver"] == 1


async def test_joiner_who_is_denied_alone_has_a_result(at: Restricted) -> None:
    async with working(at) as made:
        await made.ask("create", CREATE)
        await at.permit(denied("dave"))
        assert (await made.ask("member.add", events.add("r1", "dave")))["status"] == "ok"
        assert made.keys("dave") == []


async def test_denied_dead_letter_is_owed_and_holds_up_nobody(at: Restricted) -> None:
    async with working(at) as made:
        await at.permit({"publish": {"deny": ["chat.room.deadletter.>"]}})
        with capture_logs() as lines:
            assert (await made.ask("member.remove", {"roomId": 7, "requester": "alice"}))["status"] == "error"
            assert (await made.ask("create", CREATE))["status"] == "ok"
            await until(
                lambda: any("Violation" in str(line.get("cause")) and "undelivered" in line for line in lines),
                lambda: lines,
            )
        await at.permit(NOTHING)
        await made.until(lambda: made.of(f"chat.room.deadletter.{made.site}"))


async def test_worker_is_not_ready_while_rooms_wait_for_the_right_to_send_keys(at: Restricted) -> None:
    address = f"127.0.0.1:{free_port()}"
    at.made.settings = at.made.settings.model_copy(update={"health_addr": address})

    async def is_ready() -> bool:
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}/readyz") as answer:
            text = await answer.text()
            assert answer.status == 200 or "Permissions Violation" in text, text
            return answer.status == 200

    async with working(at) as made:
        await made.ask("create", CREATE)
        await at.permit(denied())
        before = denials()
        removed = await made.publish("member.remove", REMOVE_BOB)
        await until_denied(before)
        assert not await is_ready()
        await at.permit(NOTHING)
        await made.result(removed)
        assert await is_ready()
        await at.permit(denied("alice", "carol"))
        before = denials()
        await made.publish("key.rotate", events.rotate("r1"))
        await until_denied(before)
        assert await is_ready(), "other rooms can have their keys"


async def test_denied_room_is_recovered_after_a_takeover(at: Restricted) -> None:
    async with working(at) as made:
        await made.ask("create", CREATE)
        await at.permit(denied())
        before = denials()
        added = await made.publish("member.add", events.add("r1", "dave"))
        removed = await made.publish("member.remove", REMOVE_BOB)
        await until_denied(before)
    await at.permit(denied("nobody"))
    async with working(at) as made:
        assert [(await made.result(request_id))["status"] for request_id in (added, removed)] == ["ok", "ok"]
        assert (await made.room("r1"))["encKey"]["ver"] == 1


async def test_room_whose_only_allowed_member_is_the_last_one_is_settled(at: Restricted) -> None:
    async with working(at, large_room_members=2, page_accounts=2, window_accounts=1) as made:
        await at.permit(not_allowed("carol"))
        assert (await made.ask("create", CREATE))["status"] == "ok"
        assert [version for version, _ in made.keys("carol")] == [0]


async def test_denied_notices_and_results_stop_no_key(at: Restricted) -> None:
    async with working(at) as made:
        await at.permit({"publish": {"deny": ["chat.user.*.event.subscription.update", "chat.user.*.response.*"]}})
        before = metrics.DENIED.labels("notice")._value.get(), metrics.DENIED.labels("result")._value.get()
        request_id = await made.publish("create", CREATE)
        await made.until(lambda: made.keys("carol"))
        await until_equal(lambda: made.db.room_worker_outbox.count_documents({}), 0)
        assert request_id not in made.results
        after = metrics.DENIED.labels("notice")._value.get(), metrics.DENIED.labels("result")._value.get()
        assert after == (before[0] + 3, before[1] + 1)
        assert (await made.room("r1"))["encKey"]["ver"] == 0


@pytest.mark.parametrize(
    ("permissions", "right"),
    [
        (denied(), f"publish {KEYS}"),
        (not_allowed(), f"publish {KEYS}"),
        ({"publish": {"deny": ["$JS.API.CONSUMER.CREATE.>"]}}, "publish $JS.API.CONSUMER.CREATE.ROOMS_{site}"),
        ({"subscribe": {"deny": ["_INBOX.>"]}}, "subscribe to _INBOX.>"),
    ],
)
async def test_worker_without_a_right_that_it_needs_is_not_ready_and_names_it(
    at: Restricted, permissions: dict[str, Any], right: str
) -> None:
    await at.permit(permissions)
    at.made.limit(denied_retry_s=0.2)
    with capture_logs() as lines:
        async with at.made.worker(**USER):
            waits: list[str] = []

            def named() -> bool:
                waits[:] = [line["cause"] for line in lines if line["event"] == "nats permissions unavailable"]
                return bool(waits)

            await until(named)
            assert right.format(site=at.made.site) in waits[0]
            await at.permit(NOTHING)
            await at.made.until_owned()
            assert (await at.made.ask("create", CREATE))["status"] == "ok"


async def test_worker_without_a_right_that_it_can_do_without_starts(at: Restricted) -> None:
    await at.permit({"publish": {"deny": ["chat.room.*.event.member"]}})
    with capture_logs() as lines:
        async with working(at) as made:
            assert (await made.ask("create", CREATE))["status"] == "ok"
    (line,) = [line for line in lines if line["event"] == "the permissions of this NATS user deny a part of the work"]
    assert line["denied"] == ["publish chat.room.*.event.member"]


async def test_probe_of_a_user_who_may_not_ask_is_stored_nowhere_and_reaches_no_account(at: Restricted) -> None:
    await at.permit(not_allowed("*"))
    everything = f"SITE_{at.made.site}"
    await at.made.nc.jetstream().add_stream(name=everything, subjects=["chat.user.>", "chat.room.*.event.member"])
    async with working(at):
        pass
    assert {item.subject.split(".")[2] for item in at.made.received} == {"room-worker-probe"}
    for stream in (everything, f"ROOMS_DEADLETTER_{at.made.site}"):
        assert (await at.made.nc.jetstream().stream_info(stream)).state.messages == 0


async def test_user_who_may_ask_for_its_permissions_is_not_probed(at: Restricted) -> None:
    await at.permit(denied("carol"))
    async with working(at):
        pass
    assert at.made.received == []


@pytest.mark.parametrize("permissions", [denied(), not_allowed()], ids=["deny", "no allow"])
async def test_check_names_the_denied_right(at: Restricted, permissions: dict[str, Any]) -> None:
    await at.permit(permissions)
    results = [result async for result in check_nats(at.made.settings.model_copy(update=USER))]
    assert any(KEYS in result.text for result in results if result.part == "permissions" and not result.ok)


async def test_check_names_the_denied_dead_letters(at: Restricted) -> None:
    await at.permit({"publish": {"deny": ["chat.room.deadletter.>", "$JS.API.INFO"]}})
    results = [result async for result in check_nats(at.made.settings.model_copy(update=USER))]
    denied_texts = " ".join(result.text for result in results if result.part == "permissions")
    assert "$JS.API.INFO" in denied_texts
    assert f"chat.room.deadletter.{at.made.site}" in denied_texts
