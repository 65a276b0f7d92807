"""A plan: random events, valid and invalid, for runs that the oracle judges."""

import random
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import nats.errors
import orjson

from roomkeys.subjects import event_subject
from tests.harness.site import AT, Rig

Body = dict[str, Any]
OWNER = "u0"
ORG, OTHER_ORG = "eng", "ops"
DM = "dm-"


@dataclass(frozen=True, slots=True)
class Plan:
    """The rooms and accounts of the events, and the share of events that are invalid.

    The first account owns every room; every second one is in `ORG`, the others in `OTHER_ORG`.
    """

    rooms: tuple[str, ...]
    accounts: tuple[str, ...]
    invalid: float = 0.05

    async def create_users(self, made: Rig) -> None:
        """Create the users, two bots among them."""
        for number, account in enumerate(self.accounts):
            await made.users(account, sectId=ORG if number % 2 else OTHER_ORG)
        await made.users("helper.bot", "p_app")

    def creates(self) -> list[tuple[str, Body]]:
        """Return an event per room that creates it."""
        return [("create", self.create(room_id)) for room_id in self.rooms]

    def create(self, room_id: str) -> Body:
        """Return the body of an event that creates a room with three members."""
        return {"roomId": room_id, "name": room_id, "users": self.accounts[1:4], "requesterAccount": OWNER}

    def rotations(self) -> list[tuple[str, Body]]:
        """Return an event per room that rotates it: after the last fault every member must be sent the new key."""
        return [("key.rotate", {"roomId": room_id, "requester": OWNER}) for room_id in self.rooms]

    def event(self, chance: random.Random) -> tuple[str, Body | bytes]:
        """Return a random event: suffix and body."""
        room_id, some = chance.choice(self.rooms), chance.sample(self.accounts[1:], chance.randint(1, 2))
        if chance.random() < self.invalid:
            return chance.choice(_invalid(room_id))
        weighted = self._valid(room_id, some)
        return chance.choices([event for _, event in weighted], weights=[weight for weight, _ in weighted])[0]

    def _valid(self, room_id: str, some: list[str]) -> list[tuple[int, tuple[str, Body]]]:
        """Return events that can succeed, each with its weight."""
        add: Body = {"roomId": room_id, "requesterAccount": OWNER}
        remove: Body = {"roomId": room_id, "requester": OWNER}
        two = {"requesterAccount": OWNER}
        return [
            (8, ("member.add", {**add, "users": [*some, "helper.bot", "p_app"]})),
            (8, ("member.remove", {**remove, "accounts": some})),
            (1, ("member.remove", {"roomId": room_id, "requester": some[0], "account": some[0]})),
            (1, ("member.add", {**add, "users": some, "orgs": [ORG], "history": {"mode": "none"}})),
            (1, ("member.remove", {**remove, "orgId": ORG})),
            (2, ("key.rotate", remove)),
            (1, ("create", self.create(room_id))),
            (1, ("create", {**self.create(room_id), "resolvedUsers": some, "resolvedOrgs": [OTHER_ORG]})),
            (1, ("create", {"roomId": f"{DM}{some[0]}", "users": [some[0]], **two})),
            (1, ("create", {"roomId": f"{DM}bot", "users": ["helper.bot"], **two})),
        ]


def _invalid(room_id: str) -> list[tuple[str, Body | bytes]]:
    """Return events that can never succeed; those of a dm can come before the dm exists."""
    add: Body = {"roomId": room_id, "requesterAccount": OWNER}
    remove: Body = {"roomId": room_id, "requester": OWNER}
    return [
        ("key.rotate", b"{not json"),
        ("member.add", {**add, "users": ["ghost"]}),
        ("member.add", {**add, "users": 5}),
        ("member.remove", {**remove, "account": "a b"}),
        ("member.remove", {**remove, "roomId": "nowhere", "account": OWNER}),
        ("key.rotate", {**remove, "roomId": "no.room"}),
        ("key.rotate", {**remove, "roomId": f"{DM}bot"}),
        ("create", {**add, "users": ["helper.bot"]}),
        ("create", {**add, "roomId": f"{DM}self", "users": [OWNER]}),
    ]


async def publish(made: Rig, suffix: str, body: Body | bytes, request_id: str | None = None) -> str:
    """Publish an event until the stream has it exactly once; return its request id."""
    request_id = request_id or str(uuid4())
    headers = {"X-Request-ID": request_id, "Nats-Msg-Id": str(uuid4())}
    data = body if isinstance(body, bytes) else orjson.dumps({"timestamp": AT, **body})
    while True:
        try:
            subject = event_subject(made.site, suffix)
            await made.nc.jetstream().publish(subject, data, headers=headers, timeout=2)
        except (nats.errors.Error, OSError):
            continue
        return request_id
