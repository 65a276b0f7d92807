"""Recordings written by hand: a small correct run, which tests change so that one thing is wrong."""

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson

from roomkeys import subjects
from tests.verification.oracle.judge import find_violations
from tests.verification.oracle.known_keys import digest
from tests.verification.oracle.recorder import classify
from tests.verification.oracle.recording import Change, ChangeKind, DeadLetter, Event, Gap, Recording, RoomDocument

SITE = "site"
USERS = {name: frozenset[str]() for name in ("alice", "bob", "carol", "dave", "helper.bot")}
START_MS = 1_747_000_000_000
STEP_MS = 10_000
"""Events are so far apart that the tolerance for clocks does not matter."""


def key(room: str, version: int) -> bytes:
    """Return the key that a version of a room has in the examples."""
    return f"{room}/{version}".encode().ljust(32, b"\xff")


@dataclass
class Run:
    """A run while it goes on: each call records one thing. `clock` is the time of the next one."""

    recording: Recording = field(default_factory=lambda: Recording(SITE, dict(USERS), started_ms=START_MS))
    clock: int = START_MS
    cluster_time: int = START_MS // 1000 << 32

    def publish(self, suffix: str, body: dict[str, Any] | bytes) -> str:
        """Publish an event; return its request id."""
        self.clock += STEP_MS
        events = self.recording.events
        request_id = str(UUID(int=len(events) + 1))
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        subject = subjects.event_subject(SITE, suffix)
        events.append(Event(len(events) + 1, self.clock, subject, data, request_id))
        return request_id

    def receive(self, subject: str, body: dict[str, Any], request_id: str | None = None) -> None:
        """Receive a message of the worker."""
        self.clock += 1
        headers = {"X-Request-ID": request_id} if request_id else None
        classify.record(self.recording, 0, subject, orjson.dumps(body), headers, self.clock)

    def send_key(self, room: str, version: int, *accounts: str, **changed: Any) -> None:
        """Send a key to accounts."""
        secret = changed.pop("secret", key(room, version))
        body = {"roomId": room, "version": version, "privateKey": b64encode(secret).decode(), "timestamp": 5, **changed}
        for account in accounts:
            self.receive(subjects.room_key(account), body)

    def notify(self, request_id: str, action: str, *accounts: str, **changed: Any) -> None:
        """Send accounts the notice that they joined or left."""
        for account in accounts:
            self.receive(subjects.subscription_update(account), {"action": action, **changed}, request_id)

    def notify_room(self, request_id: str, room: str, kind: str, *accounts: str) -> None:
        """Send a room the notice that its members changed."""
        self.receive(subjects.room_member_event(room), {"type": kind, "accounts": accounts}, request_id)

    def respond(self, request_id: str, operation: str, room: str | None, *error: str, **changed: Any) -> None:
        """Send alice the result of her request."""
        body: dict[str, Any] = {"requestId": request_id, "operation": operation, "status": "error" if error else "ok"}
        body |= {"roomId": room} if room else {}
        body |= dict(zip(("code", "reason"), error, strict=False)) | changed
        self.receive(subjects.response("alice", request_id), body, request_id)

    def commit(self, *changes: tuple[ChangeKind, str, str | int | None]) -> None:
        """Commit one transaction: (kind, room, account or version) for each change."""
        self.clock += 1
        self.cluster_time = max(self.cluster_time + 1, self.clock // 1000 << 32)
        for kind, room, value in changes:
            account, version = (value, None) if isinstance(value, str) else ("", value)
            self.recording.changes.append(Change(kind, room, self.cluster_time, self.clock, account, version))
            self.recording.arrived_by.append(len(self.recording.listeners))
            if kind in (ChangeKind.CURRENT, ChangeKind.STAGED) and version is not None:
                secret = key(room, version)
                self.recording.known_keys.add(secret)
                self.recording.stored_keys.add((room, version, digest(secret)))

    def apply(self, room: str, version: int | None, joined: str = "", left: str = "") -> None:
        """Commit a batch: accounts join and leave, and a version is staged."""
        keys = [(ChangeKind.HIGH, room, version), (ChangeKind.STAGED, room, version)] if version is not None else []
        joins = [(ChangeKind.JOINED, room, account) for account in joined.split()]
        self.commit(*keys, *((ChangeKind.LEFT, room, account) for account in left.split()), *joins)

    def settle(self, room: str, version: int) -> None:
        """Commit that a staged key becomes current."""
        self.commit((ChangeKind.CURRENT, room, version), (ChangeKind.STAGED, room, None))

    def dead_letter(self, sequence: int, code: str, reason: str, **changed: str) -> None:
        """Store the dead letter of an event."""
        event = self.recording.events[sequence - 1]
        headers = {
            "Nats-Msg-Id": f"ROOMS_{SITE}:{sequence}",
            "Room-Worker-Code": code,
            "Room-Worker-Reason": reason,
            "Room-Worker-Subject": event.subject,
            "Room-Worker-Sequence": str(sequence),
        }
        self.recording.dead_letters.append(DeadLetter(headers | changed, event.body))

    def end(self, room: str, version: int | None, **members: str) -> None:
        """Set what the database holds of a room in the end; `members` have roles."""
        self.recording.rooms[room] = RoomDocument("channel", len(members), 0, version, version, None)
        self.recording.members[room] = dict(members)

    def gap(self, since_ms: int, until_ms: int) -> None:
        """Let the listener miss what goes out in this time."""
        self.recording.gaps.append(Gap(0, since_ms, until_ms))


def create(run: Run) -> str:
    """Alice creates r1 with bob and carol."""
    request_id = run.publish(
        "create", {"roomId": "r1", "name": "r1", "users": ["bob", "carol"], "requesterAccount": "alice"}
    )
    run.apply("r1", 0, joined="alice bob carol")
    run.notify(request_id, "added", "alice", "bob", "carol")
    run.send_key("r1", 0, "alice", "bob", "carol")
    run.settle("r1", 0)
    run.respond(request_id, "room.create", "r1")
    run.end("r1", 0, alice="owner", bob="member", carol="member")
    return request_id


def remove_bob(run: Run) -> str:
    """Alice removes bob, which makes version 1."""
    request_id = run.publish("member.remove", REMOVE)
    run.apply("r1", 1, left="bob")
    run.notify(request_id, "removed", "bob")
    run.notify_room(request_id, "r1", "member_removed", "bob")
    run.send_key("r1", 1, "alice", "carol")
    run.settle("r1", 1)
    run.respond(request_id, "room.member.remove", "r1")
    run.end("r1", 1, alice="owner", carol="member")
    return request_id


def add_dave(run: Run, version: int) -> str:
    """Alice adds dave, who is sent the current version."""
    request_id = run.publish("member.add", ADD)
    run.apply("r1", None, joined="dave")
    run.notify(request_id, "added", "dave")
    run.notify_room(request_id, "r1", "member_added", "dave")
    run.send_key("r1", version, "dave", timestamp=6)
    run.respond(request_id, "room.member.add", "r1")
    before = run.recording.members["r1"]
    run.end("r1", version, **{**{who: str(role) for who, role in before.items()}, "dave": "member"})
    return request_id


def reject_rotation(run: Run) -> str:
    """Alice rotates a room that does not exist."""
    request_id = run.publish("key.rotate", {"roomId": "r9", "requester": "alice"})
    run.dead_letter(len(run.recording.events), "not_found", "room_not_found")
    run.respond(request_id, "room.key.rotate", "r9", "not_found", "room_not_found")
    return request_id


def rotate(run: Run, version: int, *accounts: str) -> str:
    """Alice rotates r1, and the accounts are sent the version."""
    request_id = run.publish("key.rotate", ROTATE)
    run.apply("r1", version)
    run.send_key("r1", version, *accounts)
    run.settle("r1", version)
    run.respond(request_id, "room.key.rotate", "r1")
    return request_id


REMOVE = {"roomId": "r1", "requester": "alice", "account": "bob"}
ADD = {"roomId": "r1", "requesterAccount": "alice", "users": ["dave"]}
ROTATE = {"roomId": "r1", "requester": "alice"}


def correct_run() -> Run:
    """Return a correct run: a create, a removal, an add, and an event that is rejected."""
    run = Run()
    create(run)
    remove_bob(run)
    add_dave(run, 1)
    reject_rotation(run)
    return run


def failed_checks(run: Run) -> set[str]:
    """Return the names of the checks that find something wrong in a run."""
    return {violation.check for violation in find_violations(run.recording)}
