"""Documents that other programs wrote, or changed, in shapes that the contract does not have.

What is no membership, reason or user is nobody's. What is no count, version or key is written whole. Each case has
a room, and all rooms share a partition: a room that fails would hold up the others.
"""

import asyncio
from contextlib import suppress
from typing import Any

import bson
import orjson
import pytest
from bson import Binary, Code, CodecOptions, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex
from bson.raw_bson import RawBSONDocument
from pymongo.errors import DuplicateKeyError

from roomkeys import subjects
from tests.harness import events
from tests.harness.site import Received, Rig

MEMBERS = [f"m{number}" for number in range(8)]
ODD: list[Any] = [
    None, "x", "", [], ["dave"], [["dave"]], {}, {"account": "dave"}, [{"account": "dave"}], 7, 7.5, True, float("nan"),
    float("inf"), -1, b"x", Int64(2**62), Decimal128("3"), ObjectId(), Regex("d"), Code("dave"), MinKey(), MaxKey(),
    Binary(b"x", 5),
]  # fmt: skip
Body = dict[str, Any]
DAVE = {"account": "dave"}


@pytest.fixture
async def people(site_rig: Rig) -> Rig:
    """Know alice, bob, carol and dave of no org, and dan and eve of department d1."""
    await site_rig.users("alice", "bob", "carol", "dave")
    await site_rig.users("dan", "eve", deptId="d1")
    return site_rig


async def ask_all(rig: Rig, suffix: str, bodies: list[Body]) -> None:
    """Publish events of different rooms and require that all of them succeed."""
    answers = await asyncio.gather(*(rig.ask(suffix, body) for body in bodies))
    failed = {answer["roomId"]: answer["reason"] for answer in answers if answer["status"] != "ok"}
    assert failed == {}


async def insert(rig: Rig, collection: str, documents: list[Body]) -> None:
    """Insert the documents whose place in the unique index is free."""
    for document in documents:
        with suppress(DuplicateKeyError):
            await rig.db[collection].insert_one(document)


async def require_work(rig: Rig, rooms: list[str], owner: str = "alice") -> None:
    """Require that dave can join the rooms and leave them, and that everybody who stays has the last key."""
    await ask_all(rig, "member.add", [events.add(room_id, "dave") for room_id in rooms])
    joined = {room_id: (await rig.room(room_id))["encKey"] for room_id in rooms}
    for room_id, key in joined.items():
        assert rig.keys("dave", room_id)[-1:] == [(key["ver"], key["priv"])], room_id
    await ask_all(rig, "member.remove", [events.remove(room_id, account="dave") for room_id in rooms])
    await ask_all(rig, "key.rotate", [events.rotate(room_id) for room_id in rooms])
    for room_id, before in joined.items():
        key = (await rig.room(room_id))["encKey"]
        assert key["ver"] > before["ver"], room_id
        for account in (owner, "bob", "carol"):
            assert rig.keys(account, room_id)[-1] == (key["ver"], key["priv"]), (room_id, account)
        assert rig.keys("dave", room_id)[-1] == (before["ver"], before["priv"]), room_id


@pytest.mark.parametrize("who", [{}, {"account": None}])
async def test_membership_without_account_ends_no_pass_over_a_large_room(site_rig: Rig, who: dict[str, Any]) -> None:
    site_rig.limit(large_room_members=4, page_accounts=3, window_accounts=2)
    async with site_rig.worker(partitions=1):
        await site_rig.users("alice", *MEMBERS)
        await site_rig.ask("create", events.create("big", *MEMBERS))
        await site_rig.db.subscriptions.insert_one({"_id": "x", "roomId": "big", "u": who})
        assert (await site_rig.ask("key.rotate", events.rotate("big")))["status"] == "ok"
        assert [account for account in ("alice", *MEMBERS) if 1 not in dict(site_rig.keys(account))] == []


async def test_membership_without_account_ends_no_page_of_small_rooms(site_rig: Rig) -> None:
    site_rig.limit(page_accounts=3)
    async with site_rig.worker(partitions=1):
        await site_rig.users("alice", *MEMBERS)
        await site_rig.ask("create", events.create("r1", *MEMBERS))
        await site_rig.db.subscriptions.insert_one({"_id": "x", "roomId": "r1", "u": {}})
        assert (await site_rig.ask("key.rotate", events.rotate("r1")))["status"] == "ok"
        assert [account for account in ("alice", *MEMBERS) if 1 not in dict(site_rig.keys(account))] == []


LARGE = {"large_room_members": 1, "page_accounts": 3, "first_page_accounts": 2, "batch_accounts": 2}


@pytest.mark.parametrize("limits", [{}, LARGE], ids=["small", "large"])
async def test_odd_membership_is_nobodys(people: Rig, limits: dict[str, int]) -> None:
    people.limit(**limits)
    odd: list[Body] = [{"u": {"account": value}} for value in ODD if value != ["dave"]]
    odd += [{"u": value} for value in ODD if value != DAVE]
    odd += [{"u": [{"account": "eve"}]}, {"u": {"account": ["bob", "dave", 5]}}, {"u": {"_id": 5, "account": ["a"]}}]
    rooms = [f"r{number}" for number in range(len(odd))]
    arrays = [{"roomId": [room_id], "u": {"account": "eve"}} for room_id in rooms]
    arrays += [{"roomId": [room_id, "other"], "u": {"account": "dan"}} for room_id in rooms]
    async with people.worker(partitions=1):
        await ask_all(people, "create", [events.create(room_id, "bob", "carol") for room_id in rooms])
        pairs = zip(rooms, odd, strict=True)
        await insert(people, "subscriptions", [{"roomId": room_id, **document} for room_id, document in pairs])
        await insert(people, "subscriptions", arrays)
        await require_work(people, rooms)
        counts = {room_id: (await people.room(room_id))["userCount"] for room_id in rooms}
        assert set(counts.values()) == {3}, counts


async def test_membership_with_odd_fields_is_one(people: Rig) -> None:
    rooms = [f"r{number}" for number in range(len(ODD))]
    async with people.worker(partitions=1):
        await ask_all(people, "create", [events.create(room_id, "bob", "carol") for room_id in rooms])
        for room_id, value in zip(rooms, ODD, strict=True):
            fields = {"roles": value, "u._id": value, "siteId": value, "name": value, "joinedAt": value}
            await people.db.subscriptions.update_many({"roomId": room_id}, {"$set": fields})
        await require_work(people, rooms)
        await ask_all(people, "member.remove", [events.remove(room_id, account="bob") for room_id in rooms])
        for room_id in rooms:
            assert set(await people.members(room_id)) == {"alice", "carol"}


@pytest.mark.parametrize("limits", [{}, {"batch_accounts": 2}], ids=["whole", "in slices"])
async def test_odd_reason_is_nobodys(people: Rig, limits: dict[str, int]) -> None:
    """It makes nobody an individual, and a room no room with orgs."""
    people.limit(**limits)
    rows: list[Body] = [{"member": {"id": value, "type": "org"}} for value in ODD if value not in ("x", ["dave"])]
    rows += [{"member": {"id": value, "type": "individual"}} for value in ODD]
    rows += [{"member": {"id": "u-dan", "type": "individual", "account": value}} for value in ODD if value != ""]
    rows += [{"member": {"id": "d1", "type": value}} for value in ODD]
    rows += [{"member": value} for value in ODD]
    rows += [{"member": {"type": "individual"}}, {"member": {"type": "org"}}, {"member": {"id": "d1"}}, {}]
    rows += [{"member": {"id": "d1", "type": ["org"]}}, {"member": {"id": ["d1"], "type": "org"}}]
    rows += [{"member": [{"id": "d1", "type": "org"}]}, {"member": [{"id": "u-dan", "type": "individual"}]}]
    rows += [{"member": {"id": ["u-dan"], "type": "individual", "account": ["dan"]}}]
    rooms = [f"r{number}" for number in range(len(rows))]
    arrays = [
        {"rid": [room_id], "member": {"id": "u-dan", "type": "individual", "account": "dan"}} for room_id in rooms
    ]
    arrays += [{"rid": [room_id, "r"], "member": {"id": "d1", "type": "org"}} for room_id in rooms]
    async with people.worker(partitions=1):
        await ask_all(people, "create", [events.create(room_id, "bob", "carol") for room_id in rooms])
        await insert(
            people, "room_members", [{"rid": room_id, **row} for room_id, row in zip(rooms, rows, strict=True)]
        )
        await insert(people, "room_members", arrays)
        await require_work(people, rooms)
        await ask_all(people, "member.add", [events.add(room_id, orgs=["d1"]) for room_id in rooms])
        individuals = {"member.type": {"$eq": "individual"}, "member.account": {"$in": ["alice", "bob", "carol"]}}
        for room_id in rooms:
            assert set(await people.members(room_id)) == {"alice", "bob", "carol", "dan", "eve"}, room_id
            assert await people.db.room_members.count_documents({"rid": room_id, **individuals}) == 3, room_id
        await ask_all(people, "member.remove", [events.remove(room_id, orgId="d1") for room_id in rooms])
        for room_id, row in zip(rooms, rows, strict=True):
            assert set(await people.members(room_id)) == {"alice", "bob", "carol"}, (room_id, row)


async def test_odd_user_is_nobody(people: Rig) -> None:
    rooms = [f"r{number}" for number in range(len(ODD))]
    for number, value in enumerate(ODD):
        odd = [{"account": value}, {"account": value, "deptId": "d1"}, {"account": f"p{number}", "deptId": value}]
        odd += [{"account": f"q{number}", "engName": value, "chineseName": value, "sectId": "s1"}]
        await people.db.users.insert_many(odd)
    async with people.worker(partitions=1):
        creates = [events.create(room_id, "bob", "carol", orgs=["d1", "s1"]) for room_id in rooms]
        await ask_all(people, "create", creates)
        await require_work(people, rooms)
        await ask_all(people, "member.remove", [events.remove(room_id, orgId="d1") for room_id in rooms])
        dms = [events.create(f"dm{number}", f"q{number}", name="") for number in range(len(ODD))]
        await ask_all(people, "create", dms)
        members = {"alice", "bob", "carol", *(f"q{number}" for number in range(len(ODD)))}
        for room_id in rooms:
            assert set(await people.members(room_id)) == members


async def test_odd_app_has_no_name(people: Rig) -> None:
    await people.users(*(f"b{number}.bot" for number in range(len(ODD))))
    for number, value in enumerate(ODD):
        bot = f"b{number}.bot"
        odd = [{"assistant": {"name": bot}, "name": value}, {"assistant": {"name": [bot]}, "name": "x"}]
        await people.db.apps.insert_many([*odd, {"assistant": [{"name": bot}], "name": "x"}])
    async with people.worker(partitions=1):
        bodies = [events.create(f"d{number}", f"b{number}.bot", name="") for number in range(len(ODD))]
        await ask_all(people, "create", bodies)


KEY_FIELDS = ["keyRotation", *(f"keyRotation.{name}" for name in ("high", "settled", "current", "staged", "past"))]
KEY_FIELDS += ["encKey", *(f"encKey.{name}" for name in ("ver", "priv", "prevVer", "prevPriv", "prevExpiresAt"))]
FIELDS = ["userCount", "appCount", "name", "updatedAt", "createdAt", "lastMsgId", *KEY_FIELDS]


async def ask_for_keys(rig: Rig, account: str, rooms: list[str]) -> dict[str, dict[str, Any]]:
    """Ask for the keys in use, as a client does."""
    answers: dict[str, dict[str, Any]] = {}
    for start in range(0, len(rooms), 100):
        body = {"requests": [{"roomId": room_id} for room_id in rooms[start : start + 100]]}
        reply = await rig.nc.request(subjects.keys_batch(rig.site, account), orjson.dumps(body), timeout=5)
        answers |= {item["roomId"]: item for item in orjson.loads(reply.data)["results"]}
    return answers


@pytest.mark.parametrize("limits", [{}, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("fields", [FIELDS[:6], KEY_FIELDS[:6], KEY_FIELDS[6:]], ids=["room", "keyRotation", "encKey"])
async def test_room_works_whatever_a_field_contains(people: Rig, fields: list[str], limits: dict[str, int]) -> None:
    people.limit(**limits)
    cases = [{"$set": {field: value}} for field in fields for value in ODD] + [
        {"$unset": {field: 1}} for field in fields
    ]
    changes = {f"r{number}": change for number, change in enumerate(cases)}
    rooms = list(changes)
    async with people.worker(partitions=1):
        await ask_all(people, "create", [events.create(room_id, "bob", "carol") for room_id in rooms])
        await ask_all(people, "key.rotate", [events.rotate(room_id) for room_id in rooms])
        for room_id, change in changes.items():
            await people.db.rooms.update_one({"_id": room_id}, change)
        early = await ask_for_keys(people, "bob", rooms)
        assert {answer.get("reason", "key_not_available") for answer in early.values()} == {"key_not_available"}
        await require_work(people, rooms)
        late = await ask_for_keys(people, "bob", rooms)
        for room_id in rooms:
            room = await people.room(room_id)
            assert late[room_id].get("version") == room["encKey"]["ver"], changes[room_id]
            assert isinstance(room["keyRotation"]["past"], list), changes[room_id]
            if changes[room_id] not in ({"$set": {"userCount": 7}}, {"$set": {"appCount": 7}}):
                assert (room["userCount"], room["appCount"]) == (3, 0), changes[room_id]
        sent = [(item.body["roomId"], *pair) for item in people.received for pair in keys_of(item)]
        assert len({(room_id, version) for room_id, version, _ in sent}) == len(set(sent)), "one key per version"


def keys_of(item: Received) -> list[tuple[int, str]]:
    is_key = item.subject.endswith(".event.room.key")
    return [(item.body["version"], item.body["privateKey"])] if is_key else []


async def test_counts_that_are_none_are_counted_again(people: Rig) -> None:
    await people.users("x.bot", "p_app")
    rooms = ["added", "removed", "rotated"]
    async with people.worker(partitions=1):
        await ask_all(people, "create", [events.create(room_id, "bob", "carol") for room_id in rooms])
        for room_id in rooms:
            membership = await people.db.subscriptions.find_one({"roomId": room_id, "u.account": "bob"})
            for account in ("x.bot", "p_app", "p.bot"):
                bot = {**membership, "_id": f"{room_id}{account}", "u": {"_id": account, "account": account}}
                await people.db.subscriptions.insert_one(bot)
            await people.db.rooms.update_one({"_id": room_id}, {"$set": {"userCount": "2", "appCount": None}})
        await ask_all(people, "member.add", [events.add("added", "dave")])
        await ask_all(people, "member.remove", [events.remove("removed", account="p_app")])
        await ask_all(people, "key.rotate", [events.rotate("rotated")])
        counts = {room_id: await people.room(room_id) for room_id in rooms}
        found = [(room["userCount"], room["appCount"]) for room in counts.values()]
        assert found == [(4, 3), (3, 2), (3, 3)]


async def test_text_that_is_not_utf8_fails_nothing(people: Rig) -> None:
    """MongoDB stores such texts as they are."""
    tolerant = CodecOptions(document_class=RawBSONDocument, unicode_decode_error_handler="replace")
    raw = people.db.with_options(tolerant)

    def wrong(document: Body) -> RawBSONDocument:
        return RawBSONDocument(bson.encode(document).replace(b"QQ", b"\xff\xfe"), tolerant)

    async with people.worker(partitions=1):
        await ask_all(people, "create", [events.create("r1", "bob", "carol")])
        await raw.rooms.replace_one({"_id": "r1"}, wrong({**await people.room("r1"), "name": "QQ"}))
        for fields in ({"account": "QQ"}, {"account": "bob"}):
            document = {"_id": str(fields), "roomId": "r1", "u": fields, "roles": ["QQ"], "name": "QQ"}
            with suppress(DuplicateKeyError):
                await raw.subscriptions.insert_one(wrong(document))
        await people.db.users.delete_one({"account": "carol"})
        await raw.users.insert_one(wrong({"_id": "u2", "account": "carol", "engName": "QQ", "deptId": "QQ"}))
        await ask_all(people, "member.add", [events.add("r1", "carol", orgs=["d1"])])
        await people.db.rooms.update_one({"_id": "r1"}, {"$set": {"name": "general"}})
        await require_work(people, ["r1"])
        await ask_all(people, "create", [events.create("d1", "carol", name="")])
