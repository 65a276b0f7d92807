"""Any field of any document, replaced by any value of BSON, while events arrive: judged after every step.

All examples share a site, and each has separate rooms and users, so thousands of them take minutes. An
example that fails becomes an `@example`.
"""

import asyncio
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from pymongo.errors import PyMongoError

from roomkeys import subjects
from store.documents import membership_key, reason
from tests.harness import events
from tests.harness.servers import Addresses
from tests.harness.site import Rig, rig

PEOPLE = ("owner", "bob", "carol", "dave", "dan")
"""The accounts of an example, without its prefix; dan is in the department of the example."""
REFUSALS = {None, "room_not_found", "user_not_found", "non_channel_operation", "room_exists"}
PATIENCE = 10.0
MANY = int(os.environ.get("ANY_DOCUMENT_EXAMPLES", "3000"))

Step = tuple[str, Any]


def values() -> st.SearchStrategy[Any]:
    """Return a strategy for values of every type of BSON, and for those that look almost right."""
    number: st.SearchStrategy[Any] = st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 9) | st.floats()
    odd = [
        None,
        True,
        False,
        ObjectId(),
        Regex("a"),
        Code("dave"),
        MinKey(),
        MaxKey(),
        Timestamp(1, 1),
        Decimal128("3"),
    ]
    texts = st.text(max_size=4) | st.sampled_from(["individual", "org", "channel", "owner", "member", "dm"])
    leaves: st.SearchStrategy[Any] = (
        number | texts | st.sampled_from([*odd, Int64(2), Binary(b"x", 5), datetime(2020, 1, 1, tzinfo=UTC)])
    )
    leaves |= st.binary(max_size=4) | st.just(b"k" * 32) | st.builds(Name, st.sampled_from(PEOPLE))
    names = st.sampled_from(["ver", "priv", "account", "_id", "id", "type", "x"])
    key = st.fixed_dictionaries({"ver": number, "priv": st.just(b"k" * 32)})
    return st.recursive(
        leaves | key, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner), max_leaves=4
    )


@dataclass(frozen=True)
class Name:
    """Stands for an account of the example, which gets its prefix only when the example runs."""

    name: str


FIELDS = {
    "rooms": [
        "name", "type", "siteId", "userCount", "appCount", "updatedAt", "encKey", "encKey.ver", "encKey.priv",
        "encKey.prevVer", "keyRotation", "keyRotation.high", "keyRotation.settled", "keyRotation.current",
        "keyRotation.current.ver", "keyRotation.staged", "keyRotation.past", "keyRotation.past.0",
    ],
    "subscriptions": ["u", "u._id", "u.account", "u.isBot", "roomId", "siteId", "roles", "name", "joinedAt"],
    "room_members": ["rid", "member", "member.id", "member.type", "member.account", "ts"],
    "users": ["account", "engName", "chineseName", "sectId", "deptId"],
}  # fmt: skip
DAMAGES = [(collection, name) for collection, names in FIELDS.items() for name in names]


def steps() -> st.SearchStrategy[Step]:
    """Return a strategy for what happens next: damage of one field, or an event."""
    damage = st.tuples(
        st.just("damage"), st.tuples(st.sampled_from(DAMAGES), st.integers(0, 5), values() | st.just(...))
    )
    who = st.sampled_from(PEOPLE[1:])
    event = st.sampled_from(["add", "remove", "remove"]).flatmap(lambda kind: st.tuples(st.just(kind), who))
    other = st.sampled_from(
        [("rotate", None), ("add org", None), ("remove org", None), ("create", None), ("ask", None)]
    )
    return damage | damage | event | other


@dataclass
class Example:
    """One room and its people, and what they must never be sent: `barred` has the versions from which on."""

    made: Rig
    prefix: str
    barred: dict[str, int] = field(default_factory=dict)

    @property
    def room(self) -> str:
        return f"{self.prefix}room"

    async def begin(self) -> None:
        users = [{"_id": f"u-{self.prefix}{name}", "account": self.prefix + name} for name in PEOPLE]
        users[-1]["deptId"] = f"{self.prefix}dept"
        await self.made.db.users.insert_many(users)
        await self.event("create", events.create(self.room, self.prefix + "bob", self.prefix + "carol", **self.by))

    @property
    def by(self) -> dict[str, str]:
        return {"requester": f"{self.prefix}owner"}

    async def take(self, step: Step) -> None:
        kind, what = step
        room, org = self.room, f"{self.prefix}dept"
        account = f"{self.prefix}{what}"
        match kind:
            case "damage":
                await self.damage(*what)
            case "ask":
                await self.ask()
            case "remove":
                if await self.event("member.remove", events.remove(room, account=account, **self.by)):
                    await self.require_removed(account)
            case "remove org":
                await self.event("member.remove", events.remove(room, orgId=org, **self.by))
            case "add":
                self.barred.pop(account, None)
                await self.event("member.add", events.add(room, account, **self.by))
            case "add org":
                self.barred.clear()
                await self.event("member.add", events.add(room, orgs=[org], **self.by))
            case "create":
                self.barred.clear()
                await self.event("create", events.create(room, f"{self.prefix}bob", **self.by))
            case _:
                await self.event("key.rotate", events.rotate(room, **self.by))
        self.require_barred()

    async def event(self, suffix: str, body: dict[str, Any]) -> bool:
        """Publish an event; it succeeds, or is refused for a reason that the documents give."""
        answer = await self.made.result(await self.made.publish(suffix, body), PATIENCE)
        assert answer.get("reason") in REFUSALS, (suffix, answer)
        return bool(answer["status"] == "ok")

    async def damage(self, where: tuple[str, str], which: int, value: Any) -> None:
        collection, name = where
        query = {"rooms": "_id", "subscriptions": "roomId", "room_members": "rid"}.get(collection)
        mine: dict[str, Any] = {query: self.room} if query else {"_id": {"$regex": f"^u-{self.prefix}"}}
        found = await self.made.db[collection].find(mine, {"_id": 1}).sort("_id").to_list(None)
        if not found:
            return
        self.barred.clear()  # the document may make a member of anybody
        change = {"$unset": {name: 1}} if value is ... else {"$set": {name: self.named(value)}}
        with suppress(PyMongoError, OverflowError):  # the index has a document there, or the field no object
            await self.made.db[collection].update_one({"_id": found[which % len(found)]["_id"]}, change)

    def named(self, value: Any) -> Any:
        match value:
            case Name(name):
                return self.prefix + name
            case list():
                return [self.named(item) for item in value]
            case dict():
                return {key: self.named(item) for key, item in value.items()}
        return value

    async def require_removed(self, account: str) -> None:
        """Require that the account is no member any more, unless an org may keep it."""
        rows = await self.made.db.room_members.find({"rid": self.room}).to_list(None)
        kept_by_org = any(row.type == "org" for row in map(reason, rows) if row is not None)
        found = await self.made.db.subscriptions.find({"roomId": self.room}).to_list(None)
        is_member = (self.room, account) in set(map(membership_key, found))
        assert kept_by_org or not is_member, f"{account} holds on"
        individual = [row for row in map(reason, rows) if row is not None and row.account == account]
        assert is_member or not individual or not kept_by_org, f"{account} left a row"
        if not is_member:
            versions = [version for name in PEOPLE for version, _ in self.made.keys(self.prefix + name, self.room)]
            self.barred[account] = len(self.made.received)
            assert versions

    def require_barred(self) -> None:
        """Require one key for each version, and that nobody removed was sent a version from after the removal."""
        keys = [item for item in self.made.received if item.subject.endswith(".event.room.key")]
        mine = [item for item in keys if item.body["roomId"] == self.room]
        bytes_of: dict[int, set[str]] = {}
        for item in mine:
            bytes_of.setdefault(item.body["version"], set()).add(item.body["privateKey"])
        assert all(len(found) == 1 for found in bytes_of.values()), "two keys for one version"
        for account, since in self.barred.items():
            later = self.made.received[since:]
            sent = [
                one for one in later if one.subject == subjects.room_key(account) and one.body["roomId"] == self.room
            ]
            assert sent == [], f"{account} was sent a key after its removal"

    async def ask(self) -> None:
        """Ask the key service; whatever the documents are, it answers."""
        body = orjson.dumps({"requests": [{"roomId": self.room}, {"roomId": self.room, "version": 1}]})
        reply = await self.made.nc.request(
            subjects.keys_batch(self.made.site, f"{self.prefix}bob"), body, timeout=PATIENCE
        )
        answers = orjson.loads(reply.data)["results"]
        assert {answer.get("reason") for answer in answers} <= {None, "not_room_member", "key_not_available"}, answers


async def run_example(made: Rig, plan: list[Step]) -> None:
    """Run the steps in a new room; a room without damage, of the same partition, never waits for it."""
    one = Example(made, f"{secrets.token_hex(4)}-")
    await one.begin()
    for step in plan:
        await one.take(step)
        calm = await made.result(await made.publish("key.rotate", events.rotate("calm")), PATIENCE)
        assert calm["status"] == "ok", calm
    for account in ("bob", "carol"):
        await one.take(("remove", account))


def search(addresses: Addresses, examples: int) -> None:
    """Search for an example that fails, on one site with one worker, which ends and recovers as it should."""

    async def begin() -> None:
        await made.users("alice", "zoe")
        assert (await made.ask("create", events.create("calm", "zoe")))["status"] == "ok"

    with asyncio.Runner() as runner:
        site = f"s{secrets.token_hex(4)}"
        opened = rig(addresses.nats, addresses.mongo, f"test_{site}", site)
        made = runner.run(opened.__aenter__())
        working = made.worker(partitions=1)
        runner.run(working.__aenter__())
        try:
            runner.run(begin())

            @settings(
                max_examples=examples,
                deadline=None,
                derandomize=examples < 1_000,
                database=None,
                print_blob=True,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(st.lists(steps(), min_size=2, max_size=7))
            @example([("damage", (("rooms", "keyRotation"), 0, "x")), ("remove", "bob"), ("rotate", None)])
            @example(
                [("add org", None), ("damage", (("users", "deptId"), 4, 7)), ("remove", "dan"), ("remove org", None)]
            )
            @example(
                [
                    ("add org", None),
                    ("damage", (("subscriptions", "roomId"), 0, [])),
                    ("remove", "bob"),
                    ("add org", None),
                ]
            )
            def runs(plan: list[Step]) -> None:
                runner.run(run_example(made, plan))

            runs()
        finally:
            runner.run(working.__aexit__(None, None, None))
            runner.run(opened.__aexit__(None, None, None))


@pytest.mark.timeout(300)
def test_room_works_whatever_any_field_contains(servers: Addresses) -> None:
    search(servers, 60)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_room_works_whatever_any_field_contains_in_many_examples(servers: Addresses) -> None:
    search(servers, MANY)
