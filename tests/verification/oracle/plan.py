"""Plans: events by a seed, good and bad, for runs that are judged."""

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
    """Who and what events are about; `accounts` begin with the owner, every other one is in the org."""

    rooms: tuple[str, ...]
    accounts: tuple[str, ...]
    poison: float = 0.05

    async def settle_in(self, made: Rig) -> None:
        """Make the users."""
        for number, account in enumerate(self.accounts):
            await made.users(account, sectId=ORG if number % 2 else OTHER_ORG)
        await made.users("helper.bot", "p_app")

    def creates(self) -> list[tuple[str, Body]]:
        """Return an event that creates each room with a few members."""
        return [("create", self.create(room_id)) for room_id in self.rooms]

    def create(self, room_id: str) -> Body:
        return {"roomId": room_id, "name": room_id, "users": self.accounts[1:4], "requesterAccount": OWNER}

    def rotations(self) -> list[tuple[str, Body]]:
        """Return an event that gives each room a new key: after the last fault every member must be sent it."""
        return [("key.rotate", {"roomId": room_id, "requester": OWNER}) for room_id in self.rooms]

    def event(self, chance: random.Random) -> tuple[str, Body | bytes]:
        """Return any event."""
        room_id, some = chance.choice(self.rooms), chance.sample(self.accounts[1:], chance.randint(1, 2))
        if chance.random() < self.poison:
            return chance.choice(_poison(room_id))
        weighed = self._good(room_id, some)
        return chance.choices([event for _, event in weighed], weights=[weight for weight, _ in weighed])[0]

    def _good(self, room_id: str, some: list[str]) -> list[tuple[int, tuple[str, Body]]]:
        """Return events that can succeed, each with how often it comes."""
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


def _poison(room_id: str) -> list[tuple[str, Body | bytes]]:
    """Return events that can never succeed; what is asked of a dm may come before the dm."""
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
    """Publish until the stream has it, as producers do; the message's id keeps it from being taken twice."""
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
