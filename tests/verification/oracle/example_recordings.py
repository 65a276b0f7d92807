"""Recordings made by hand: a small run that is right, to be bent by a test."""

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson

from roomkeys import subjects
from tests.verification.oracle import classify
from tests.verification.oracle.recording import Change, Event, Gap, Letter, Recording, RoomDocument, What
from tests.verification.oracle.sealed import digest

SITE = "site"
PEOPLE = {name: frozenset[str]() for name in ("alice", "bob", "carol", "dave", "helper.bot")}
START_MS = 1_747_000_000_000
STEP_MS = 10_000
"""Events are so far apart that no clock is in doubt."""


def key(room: str, version: int) -> bytes:
    return f"{room}/{version}".encode().ljust(32, b"\xff")


@dataclass
class Run:
    """A run as it goes on: each call is one thing that is seen; `clock` is the time of the next one."""

    recording: Recording = field(default_factory=lambda: Recording(SITE, dict(PEOPLE), began_ms=START_MS))
    clock: int = START_MS
    moment: int = START_MS // 1000 << 32

    def event(self, suffix: str, body: dict[str, Any] | bytes) -> str:
        """Let a producer publish; return the request's id."""
        self.clock += STEP_MS
        events = self.recording.events
        request_id = str(UUID(int=len(events) + 1))
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        subject = subjects.event_subject(SITE, suffix)
        events.append(Event(len(events) + 1, self.clock, subject, data, request_id))
        return request_id

    def hear(self, subject: str, body: dict[str, Any], request_id: str | None = None) -> None:
        """Let a message go out."""
        self.clock += 1
        headers = {"X-Request-ID": request_id} if request_id else None
        classify.note(self.recording, 0, subject, orjson.dumps(body), headers, self.clock)

    def send(self, room: str, version: int, *accounts: str, **changed: Any) -> None:
        """Fan a key out."""
        secret = changed.pop("secret", key(room, version))
        body = {
            "roomId": room,
            "version": version,
            "privateKey": b64encode(secret).decode(),
            "timestamp": 5,
            **changed,
        }
        for account in accounts:
            self.hear(subjects.room_key(account), body)

    def update(self, request_id: str, action: str, *accounts: str, **changed: Any) -> None:
        """Tell accounts that they joined or left."""
        for account in accounts:
            self.hear(subjects.subscription_update(account), {"action": action, **changed}, request_id)

    def tell_room(self, request_id: str, room: str, kind: str, *accounts: str) -> None:
        """Tell a room that its member list changed."""
        self.hear(subjects.room_member_event(room), {"type": kind, "accounts": accounts}, request_id)

    def answer(self, request_id: str, operation: str, room: str | None, *error: str, **changed: Any) -> None:
        """Give a requester its result."""
        body: dict[str, Any] = {
            "requestId": request_id,
            "operation": operation,
            "status": "error" if error else "ok",
        }
        body |= {"roomId": room} if room else {}
        body |= dict(zip(("code", "reason"), error, strict=False)) | changed
        self.hear(subjects.response("alice", request_id), body, request_id)

    def commit(self, *changes: tuple[What, str, str | int | None]) -> None:
        """Let the database change: (what, room, account or version) of one transaction."""
        self.clock += 1
        self.moment = max(self.moment + 1, self.clock // 1000 << 32)
        for what, room, value in changes:
            account, version = (value, None) if isinstance(value, str) else ("", value)
            self.recording.changes.append(Change(what, room, self.moment, self.clock, account, version))
            self.recording.heard_by.append(len(self.recording.ears))
            if what in (What.IN_USE, What.STAGED) and version is not None:
                secret = key(room, version)
                self.recording.secrets.add(secret)
                self.recording.stored.add((room, version, digest(secret)))

    def apply(self, room: str, version: int | None, joined: str = "", left: str = "") -> None:
        """Commit a batch: members come and go, and a new version is staged."""
        keys = [(What.HIGH, room, version), (What.STAGED, room, version)] if version is not None else []
        comes = [(What.JOINED, room, account) for account in joined.split()]
        self.commit(*keys, *((What.LEFT, room, account) for account in left.split()), *comes)

    def settle(self, room: str, version: int) -> None:
        """Commit that a staged key is in use."""
        self.commit((What.IN_USE, room, version), (What.STAGED, room, None))

    def letter(self, sequence: int, code: str, reason: str, **changed: str) -> None:
        """Let a dead letter be stored."""
        event = self.recording.events[sequence - 1]
        headers = {
            "Nats-Msg-Id": f"ROOMS_{SITE}:{sequence}",
            "Room-Worker-Code": code,
            "Room-Worker-Reason": reason,
            "Room-Worker-Subject": event.subject,
            "Room-Worker-Sequence": str(sequence),
        }
        self.recording.letters.append(Letter(headers | changed, event.body))

    def end(self, room: str, version: int | None, **members: str) -> None:
        """Let the database hold a room in the end; `members` have roles."""
        self.recording.rooms[room] = RoomDocument("channel", len(members), 0, version, version, None)
        self.recording.members[room] = dict(members)

    def gap(self, since_ms: int, until_ms: int) -> None:
        """Let the recorder hear nothing for a while."""
        self.recording.gaps.append(Gap(0, since_ms, until_ms))


def created(run: Run) -> str:
    """Let alice create r1 with bob and carol."""
    request_id = run.event(
        "create", {"roomId": "r1", "name": "r1", "users": ["bob", "carol"], "requesterAccount": "alice"}
    )
    run.apply("r1", 0, joined="alice bob carol")
    run.update(request_id, "added", "alice", "bob", "carol")
    run.send("r1", 0, "alice", "bob", "carol")
    run.settle("r1", 0)
    run.answer(request_id, "room.create", "r1")
    run.end("r1", 0, alice="owner", bob="member", carol="member")
    return request_id


def removed(run: Run) -> str:
    """Let alice remove bob; version 1."""
    request_id = run.event("member.remove", REMOVE)
    run.apply("r1", 1, left="bob")
    run.update(request_id, "removed", "bob")
    run.tell_room(request_id, "r1", "member_removed", "bob")
    run.send("r1", 1, "alice", "carol")
    run.settle("r1", 1)
    run.answer(request_id, "room.member.remove", "r1")
    run.end("r1", 1, alice="owner", carol="member")
    return request_id


def added(run: Run, version: int) -> str:
    """Let alice add dave, who is sent the current version."""
    request_id = run.event("member.add", ADD)
    run.apply("r1", None, joined="dave")
    run.update(request_id, "added", "dave")
    run.tell_room(request_id, "r1", "member_added", "dave")
    run.send("r1", version, "dave", timestamp=6)
    run.answer(request_id, "room.member.add", "r1")
    now = run.recording.members["r1"]
    run.end("r1", version, **{**{who: str(role) for who, role in now.items()}, "dave": "member"})
    return request_id


def rejected(run: Run) -> str:
    """Let alice ask for something that cannot be."""
    request_id = run.event("key.rotate", {"roomId": "r9", "requester": "alice"})
    run.letter(len(run.recording.events), "not_found", "room_not_found")
    run.answer(request_id, "room.key.rotate", "r9", "not_found", "room_not_found")
    return request_id


REMOVE = {"roomId": "r1", "requester": "alice", "account": "bob"}
ADD = {"roomId": "r1", "requesterAccount": "alice", "users": ["dave"]}
ROTATE = {"roomId": "r1", "requester": "alice"}


def right() -> Run:
    """Return a run that is right in everything: a room, a removal, somebody new, something refused."""
    run = Run()
    created(run)
    removed(run)
    added(run, 1)
    rejected(run)
    return run
