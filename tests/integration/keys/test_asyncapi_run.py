"""docs/asyncapi.yaml, held against everything that one run puts on the wire."""

import asyncio
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import orjson
from nats.aio.msg import Msg

from tests.harness.asyncapi import Place, Sent, channels_of, place, places, replies
from tests.harness.key_service import Asker
from tests.harness.site import AT, PATIENCE, Rig

NATS_OWN = ("$JS.", "_INBOX.", "$SRV.", "$SYS.")
END = "tests.end"
SHAPE = {"invalid_event", "invalid_account", "invalid_room", "invalid_request"}
"""The reasons for which the document finds fault with a message, as the worker does."""


@dataclass
class Wire:
    """Everything that anybody published, in order."""

    messages: list[Msg] = field(default_factory=list, repr=False)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def hear(self, message: Msg) -> None:
        self.messages.append(message)
        if message.subject == END:
            self.ended.set()

    def sent(self) -> list[Sent]:
        """Return what is this project's: what has its subjects, and the replies to requests on them."""
        asked = {item.reply: item.subject for item in self.messages if item.reply and _is_request(item.subject)}
        return [
            Sent(item.subject, item.data, item.headers or {}, asked.get(item.subject))
            for item in self.messages
            if item.subject in asked or not item.subject.startswith((*NATS_OWN, END))
        ]

    def refused(self) -> set[tuple[str, bytes]]:
        """Return the events and requests that the worker found wrong in themselves, as subject and body."""
        requests = {item.reply: item for item in self.messages if item.reply and _is_request(item.subject)}
        refused = set()
        for item in self.messages:
            headers = item.headers or {}
            if headers.get("Room-Worker-Reason") in SHAPE:
                refused.add((headers["Room-Worker-Subject"], item.data))
            request = requests.get(item.subject)
            if request is not None and orjson.loads(item.data).get("reason") in SHAPE:
                refused.add((request.subject, request.data))
        return refused


def _is_request(subject: str) -> bool:
    return any(replies(channel) for channel in channels_of(subject))


async def run(made: Rig) -> Wire:
    """Let events and requests of every kind come, and return all that went over the wire."""
    wire = Wire()
    await made.nc.subscribe(">", cb=wire.hear)
    await people(made)
    async with made.worker():
        await made.until_owned()
        await rooms(made)
        await poison(made)
        await questions(Asker(made.nc, made.site))
    await made.nc.publish(END)
    async with asyncio.timeout(PATIENCE):
        await wire.ended.wait()
    return wire


async def people(made: Rig) -> None:
    await made.users("alice", "bob", "carol", "helper.bot", "p_guide", engName="Somebody")
    await made.users("erin", "frank", sectId="eng")


async def rooms(made: Rig) -> None:
    """Create, add, remove and rotate, with people, orgs, dms and bots."""
    by, at = {"roomId": "r1", "requesterAccount": "alice"}, {"roomId": "r1", "requester": "alice"}
    right: list[tuple[str, dict[str, Any]]] = [
        ("create", {**by, "name": "general", "users": ["bob"], "orgs": None, "requesterId": "u-alice"}),
        ("r2.create", {**by, "roomId": "r2", "name": "side", "users": ["bob", "carol"], "channels": []}),
        ("create", {**by, "roomId": "d1", "name": "", "users": ["bob"]}),
        ("create", {**by, "roomId": "d2", "name": "", "users": ["helper.bot"]}),
        ("create", {**by, "roomId": "d3", "name": "", "users": ["p_guide"]}),
        ("member.add", {**by, "users": ["carol"], "history": {"mode": "none"}}),
        ("member.add", {**by, "orgs": ["eng"], "timestamp": 0}),
        ("r1.member.add", {**by, "orgs": ["empty"], "history": {"mode": "all"}}),
        ("key.rotate", {**at, "reason": "asked for"}),
        ("r1.key.rotate", at),
        ("member.remove", {**at, "account": "carol", "orgId": "", "accounts": None}),
        ("r1.member.remove", {**at, "orgId": "eng", "roomType": "channel"}),
        ("member.remove", {**at, "requester": "bob", "account": "bob"}),
        ("member.remove", {**at, "roomId": "r2", "accounts": ["bob", "carol"]}),
    ]
    for suffix, body in right:
        answer = await made.ask(suffix, body)
        assert answer["status"] == "ok", (suffix, answer)


async def poison(made: Rig) -> None:
    """Ask for what cannot be, and for what nobody can read."""
    by, at = {"roomId": "r1", "requesterAccount": "alice"}, {"roomId": "r1", "requester": "alice"}
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("member.add", {**by, "users": ["nobody"]}),
        ("member.add", {**by, "roomId": "d1", "users": ["carol"]}),
        ("member.add", {**by, "roomId": "a b"}),
        ("create", {**by, "name": 5}),
        ("create", {**by, "roomId": "d1", "name": "a channel"}),
        ("member.remove", {**at, "roomId": "nowhere", "orgId": "eng"}),
        ("member.remove", {**at, "account": "bob", "orgId": "eng"}),
        ("key.rotate", {**at, "timestamp": -1}),
    ]
    for suffix, body in wrong:
        answer = await made.ask(suffix, body)
        assert answer["status"] == "error", (suffix, answer)
    await made.publish("create", b"not JSON")
    subject = f"chat.room.canonical.{made.site}.key.rotate"
    quiet = orjson.dumps({**at, "roomId": "nowhere", "timestamp": AT})
    await made.nc.jetstream().publish(subject, quiet, headers={"X-Request-ID": "none", "Nats-Msg-Id": str(uuid4())})
    await made.ask("key.rotate", at)
    letters = f"chat.room.deadletter.{made.site}"
    await made.until(lambda: sum(item.subject == letters for item in made.received) == len(wrong) + 2, "dead letters")


async def questions(asker: Asker) -> None:
    """Ask for keys, as members and as others."""
    await asker.get("alice", "r1")
    await asker.get("alice", "r1", {"version": None})
    await asker.get("alice", "r1", {"version": 0})
    await asker.get("carol", "r1", b"")
    await asker.get("alice", "r1", {"version": -1})
    await asker.batch("alice", {"requests": [{"roomId": "r1"}, {"roomId": "r2", "version": 0}, {"roomId": "x y"}]})
    await asker.batch("alice", {"requests": [{"roomId": "r1"}, {"roomId": "d1"}], "fields": ["version"]})
    await asker.batch("alice", {"requests": []})
    await asker.sync("alice", {"have": {"r1": 0}})
    await asker.sync("alice", {"have": {"r1": "0"}})
    await asker.sync("alice", {"have": {}, "cursor": "another's"})
    await asker.status("alice", {"roomIds": ["r1", "d1", "nowhere"]})
    await asker.status("alice", {"roomIds": [5]})


async def test_every_message_of_a_run_has_one_place_in_the_document_and_every_place_its_message(site_rig: Rig) -> None:
    wire = await run(site_rig)
    refused, met = wire.refused(), set[Place]()
    for item in wire.sent():
        found, whys = place(item)
        wrong = (item.subject, item.body) in refused
        assert len(found) == (0 if wrong else 1), (item.subject, found, whys)
        met |= set(found)
    assert len(refused) == 9, "events and requests of a wrong shape"
    assert met == places()
