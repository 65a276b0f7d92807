"""The replies of the key service to each request. (docs/contract.md, section 6)"""

import asyncio
from base64 import b64decode
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.harness import events
from tests.harness.key_service import BATCH, Asker, Asking, room, secret, service
from tests.harness.site import PATIENCE, Rig

NOT_MEMBER = {"error": "not a member of this room", "code": "forbidden", "reason": "not_room_member"}
LOOKUP = Counter({"find rooms": 1, "find subscriptions": 1})


@pytest.fixture
async def asking(site_rig: Rig) -> AsyncIterator[Asking]:
    """Run the service with two rooms: alice is a member of both, bob of r1 only."""
    async with service(site_rig) as made:
        await made.rooms(room("r1", 7, past=[5, 6], expired=[4]))
        await made.rooms(room("r2", 0), members=["alice"])
        made.commands.take()
        yield made


def key(version: int, room_id: str = "r1") -> tuple[int, bytes]:
    return version, secret(room_id, version)


def key_in(answer: dict[str, Any]) -> tuple[int, bytes]:
    return answer["version"], b64decode(answer["privateKey"], validate=True)


def refusal(answer: dict[str, Any]) -> tuple[str, str]:
    return answer["code"], answer["reason"]


async def test_member_gets_the_current_key(asking: Asking) -> None:
    for body in (b"", b"{}", b'{"version":null}', b'{"version":7}'):
        answer = await asking.get("bob", "r1", body)
        assert list(answer) == ["roomId", "version", "privateKey"]
        assert (answer["roomId"], key_in(answer)) == ("r1", key(7))


async def test_member_gets_a_replaced_key_only_within_its_grace_period(asking: Asking) -> None:
    assert [key_in(await asking.get("bob", "r1", {"version": version})) for version in (5, 6)] == [key(5), key(6)]
    for version in (4, 3, 8, 2**53 - 1):
        answer = await asking.get("bob", "r1", {"version": version})
        assert (list(answer), refusal(answer)) == (["error", "code", "reason"], ("not_found", "key_not_available")), (
            version
        )


async def test_non_member_cannot_learn_whether_a_room_exists(asking: Asking) -> None:
    for body in (b"", {"version": 7}, {"version": 4}, b"not json", {"version": -1}):
        answers = [
            await asking.get("carol", "r1", body),
            await asking.get("bob", "r2", body),
            await asking.get("carol", "nowhere", body),
            await asking.get("carol", "x" * 300, body),
        ]
        assert answers == [NOT_MEMBER] * 4, body


async def test_member_with_an_invalid_body_gets_bad_request(asking: Asking) -> None:
    wrong: list[object] = [b"not json", [], {"version": -1}, {"version": "7"}, {"version": True}, b"\xff"]
    for body in wrong:
        assert refusal(await asking.get("bob", "r1", body)) == ("bad_request", "invalid_request"), body


async def test_rooms_without_a_key_answer_key_not_available(asking: Asking) -> None:
    staged = {"high": 0, "staged": {"ver": 0, "priv": secret("new", 0)}}
    await asking.rooms({"_id": "dm", "type": "dm"}, {"_id": "new", "keyRotation": staged})
    for room_id in ("dm", "new"):
        for body in (b"", {"version": 0}):
            assert refusal(await asking.get("bob", room_id, body)) == ("not_found", "key_not_available")


async def test_staged_key_is_not_available_before_it_settles(asking: Asking) -> None:
    staged = {"ver": 8, "priv": secret("r1", 8)}
    await asking.database["rooms"].update_one({"_id": "r1"}, {"$set": {"keyRotation.staged": staged}})
    assert key_in(await asking.get("bob", "r1")) == key(7)
    assert refusal(await asking.get("bob", "r1", {"version": 8})) == ("not_found", "key_not_available")
    (result,) = (await asking.sync("bob", {"have": {"r1": 6}}))["results"]
    assert key_in(result) == key(7)
    assert (await asking.status("bob", {"roomIds": ["r1"]}))["r1"]["rotating"] is True


async def test_batch_is_answered_in_request_order_item_by_item(asking: Asking) -> None:
    asked: list[Any] = [
        {"roomId": "r2"},
        {"roomId": "nowhere"},
        {"roomId": "r1", "version": 6},
        {"roomId": "r1", "version": 4},
        {"roomId": "r1"},
        {"roomId": "r1", "version": "x"},
        {"roomId": "nowhere", "version": "x"},
        "garbage",
        {"roomId": "a b"},
    ]
    answer = await asking.batch("alice", {"requests": asked})
    assert list(answer) == list(BATCH)
    assert [(item["roomId"], item["status"]) for item in answer["results"]] == [
        ("r2", "ok"),
        ("nowhere", "error"),
        ("r1", "ok"),
        ("r1", "error"),
        ("r1", "ok"),
        ("r1", "error"),
        ("nowhere", "error"),
        ("", "error"),
        ("a b", "error"),
    ]
    right = [item for item in answer["results"] if item["status"] == "ok"]
    assert [key_in(item) for item in right] == [key(0, "r2"), key(6), key(7)]
    assert {tuple(item) for item in right} == {("roomId", "status", "version", "privateKey")}
    wrong = [item for item in answer["results"] if item["status"] == "error"]
    assert {tuple(item) for item in wrong} == {("roomId", "status", "error", "code", "reason")}
    assert [item["reason"] for item in wrong] == [
        "not_room_member",
        "key_not_available",
        "invalid_request",
        "not_room_member",
        "invalid_request",
        "not_room_member",
    ]
    assert [answer[field] for field in BATCH[1:4]] == [9, 3, 6]


async def test_batch_can_ask_for_versions_only(asking: Asking) -> None:
    asked = [{"roomId": "r1"}, {"roomId": "nowhere"}]
    answer = await asking.batch("bob", {"requests": asked, "fields": ["version"]})
    assert answer["results"] == [
        {"roomId": "r1", "status": "ok", "version": 7},
        {"roomId": "nowhere", "status": "error", **NOT_MEMBER},
    ]


async def test_empty_and_too_large_batches_are_refused(asking: Asking) -> None:
    bodies: list[object] = [b"", [], {}, {"requests": []}, {"requests": [{"roomId": "r1"}] * 101}]
    for body in bodies:
        answer = await asking.batch("bob", body)
        assert (list(answer), refusal(answer)) == (["error", "code", "reason"], ("bad_request", "invalid_request"))


async def test_request_for_100_rooms_costs_as_many_commands_as_for_one(asking: Asking) -> None:
    ids = [f"m{number:03d}" for number in range(100)]
    await asking.rooms(*(room(room_id, 3, past=[2]) for room_id in ids), members=["bob"])
    asking.commands.take()
    for some in (ids[:1], ids):
        requests = [{"roomId": room_id, "version": 2} for room_id in some]
        answer = await asking.batch("bob", {"requests": requests})
        assert [key_in(item) for item in answer["results"]] == [key(2, room_id) for room_id in some]
        assert asking.commands.take() == LOOKUP
        statuses = await asking.status("bob", {"roomIds": some})
        assert [item["keyVersion"] for item in statuses.values()] == [3] * len(some)
        assert asking.commands.take() == LOOKUP
        await asking.sync("bob", {"have": dict.fromkeys(some, 3)})
        assert asking.commands.take() == LOOKUP + Counter({"aggregate subscriptions": 1})


async def test_sync_returns_rooms_with_a_newer_key_and_unknown_rooms(asking: Asking) -> None:
    await asking.rooms({"_id": "dm", "type": "dm"}, room("r3", 1), room("r4", 1))
    answer = await asking.sync("alice", {"have": {"r1": 6, "r3": 1, "r4": 2, "elsewhere": 0}})
    assert list(answer) == list(BATCH)
    assert [(item["roomId"], key_in(item)) for item in answer["results"]] == [("r1", key(7)), ("r2", key(0, "r2"))]
    assert [answer[field] for field in BATCH[1:4]] == [2, 2, 0]
    assert [item["roomId"] for item in (await asking.sync("carol", b""))["results"]] == []


async def test_sync_of_more_than_500_rooms_comes_in_pages(asking: Asking) -> None:
    ids = sorted(f"{'m' * 60}{number:04d}" for number in range(1_100))
    await asking.rooms(*(room(room_id, 1) for room_id in ids), members=["dave"])
    have = dict.fromkeys(ids[:50], 1)
    asking.commands.take()
    pages = [await asking.sync("dave", {"have": have})]
    while cursor := pages[-1].get("cursor"):
        pages.append(await asking.sync("dave", {"have": have, "cursor": cursor}))
    assert [len(page["results"]) for page in pages] == [500, 500, 50]
    assert [list(page) for page in pages] == [[*BATCH, "cursor"]] * 2 + [list(BATCH)]
    assert [item["roomId"] for page in pages for item in page["results"]] == ids[50:]
    assert asking.commands.take().total() == 3 * 3
    caught_up = await asking.sync("dave", {"have": dict.fromkeys(ids, 1)})
    assert (caught_up["results"], "cursor" in caught_up) == ([], False)
    for wrong in ("garbage", pages[0]["cursor"][:-4], 7):
        assert refusal(await asking.sync("dave", {"cursor": wrong})) == ("bad_request", "invalid_cursor")
    assert refusal(await asking.sync("alice", {"cursor": pages[0]["cursor"]})) == ("bad_request", "invalid_cursor")
    assert refusal(await asking.sync("dave", {"have": []})) == ("bad_request", "invalid_request")


async def test_status_describes_rooms_to_members_only(asking: Asking) -> None:
    await asking.rooms({"_id": "dm", "type": "dm", "userCount": 2, "appCount": 0})
    answer = await asking.status("bob", {"roomIds": ["r2", "r1", "nowhere", "dm", "a b"]})
    assert list(answer.items()) == [
        ("r2", {"member": False}),
        ("r1", {"member": True, "keyVersion": 7, "userCount": 2, "appCount": 1, "rotating": False}),
        ("nowhere", {"member": False}),
        ("dm", {"member": True, "keyVersion": None, "userCount": 2, "appCount": 0, "rotating": False}),
        ("a b", {"member": False}),
    ]
    assert list(answer["r1"]) == ["member", "keyVersion", "userCount", "appCount", "rotating"]


async def test_empty_and_too_large_status_requests_are_refused(asking: Asking) -> None:
    bodies: list[object] = [b"", {}, {"roomIds": []}, {"roomIds": ["r1"] * 101}, {"roomIds": [7]}]
    for body in bodies:
        assert refusal(await asking.status("bob", body)) == ("bad_request", "invalid_request")


async def test_bot_accounts_of_one_token_are_answered_and_invalid_accounts_refused(asking: Asking) -> None:
    await asking.rooms(room("r5", 1), members=["p_bot", "helper.bot"])
    assert key_in(await asking.get("p_bot", "r5")) == key(1, "r5")
    for account in ("\u200b\u2028", "x" * 300):
        assert refusal(await asking.get(account, "r5")) == ("bad_request", "invalid_account")


async def test_key_service_returns_the_keys_that_the_worker_sent(site_rig: Rig) -> None:
    """Create a room with a whole worker, ask for its key, remove a member, and ask again."""
    await site_rig.users("alice", "bob", "carol")
    asker, sent = Asker(site_rig.nc, site_rig.site), site_rig.keys
    async with site_rig.worker():
        create = events.create("r1", "bob", "carol")
        await site_rig.ask("create", create)
        assert key_in(await asker.get("bob", "r1")) == sent("bob")[0]
        await site_rig.ask("member.remove", events.remove("r1", account="bob"))
        assert [key_in(await asker.get("carol", "r1", {"version": n})) for n in (0, 1)] == sent("carol")
        assert await asker.get("bob", "r1", {"version": 0}) == NOT_MEMBER
        standing = {"member": True, "keyVersion": 1, "userCount": 2, "appCount": 0, "rotating": False}
        assert await asker.status("carol", {"roomIds": ["r1"]}) == {"r1": standing}
    assert [version for version, _ in sent("bob")] == [0]


async def test_replaced_key_is_available_until_its_grace_period_ends(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob")
    asker = Asker(site_rig.nc, site_rig.site)
    async with site_rig.worker(grace_ms=600):
        create = events.create("r1", "bob")
        await site_rig.ask("create", create)
        await site_rig.ask("key.rotate", events.rotate("r1"))
        async with asyncio.timeout(PATIENCE):
            while "code" not in (answer := await asker.get("bob", "r1", {"version": 0})):
                assert answer["version"] == 0
                await asyncio.sleep(0.1)
    assert refusal(answer) == ("not_found", "key_not_available")
