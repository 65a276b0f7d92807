"""What the database holds at the beginning and at the end of a recording."""

from collections import defaultdict
from typing import Any

from tests.unit.decisions.model import ModelRoom
from tests.verification.oracle.recorder.oplog import Oplog, versions
from tests.verification.oracle.recording import ChangeKind, Recording, RoomDocument


async def read_users(db: Any, recording: Recording) -> None:
    """Read the accounts with their orgs; a run must not change them."""
    async for user in db.users.find({}, {"account": 1, "sectId": 1, "deptId": 1}):
        orgs = (user.get("sectId"), user.get("deptId"))
        recording.users[user["account"]] = frozenset(org for org in orgs if org)


async def read_before(db: Any, recording: Recording, oplog: Oplog) -> None:
    """Read the rooms and memberships at the beginning."""
    async for room in db.rooms.find({}, {"type": 1, "siteId": 1, "encKey": 1, "keyRotation": 1}):
        oplog.add_room(room["_id"], room)
        known = versions(room)
        seen = [version for version in (known[ChangeKind.HIGH], known[ChangeKind.CURRENT]) if version is not None]
        ours = (room.get("keyRotation") or {}).get("current")
        recording.rooms_before[room["_id"]] = ModelRoom(
            room["type"],
            room["siteId"],
            version=max(seen, default=None),
            has_key=ours is not None and ours["ver"] == known[ChangeKind.CURRENT],
        )
    async for item in db.subscriptions.find({}, {"roomId": 1, "u.account": 1, "roles": 1}):
        oplog.add_membership(item["_id"], item["roomId"], item["u"]["account"])
        recording.rooms_before[item["roomId"]].members[item["u"]["account"]] = _role(item)
    async for row in db.room_members.find({}):
        room_before = recording.rooms_before[row["rid"]]
        if row["member"]["type"] == "org":
            room_before.orgs.add(row["member"]["id"])
        else:
            room_before.individuals.add(row["member"]["account"])


async def read_after(db: Any, recording: Recording) -> None:
    """Read the rooms, memberships and outbox at the end."""
    members: defaultdict[str, dict[str, str | None]] = defaultdict(dict)
    orgs: defaultdict[str, list[str]] = defaultdict(list)
    individuals: defaultdict[str, list[str]] = defaultdict(list)
    async for room in db.rooms.find({}):
        known = versions(room)
        recording.rooms[room["_id"]] = RoomDocument(
            room["type"], room["userCount"], room["appCount"], *(known[kind] for kind in _VERSIONS)
        )
    async for item in db.subscriptions.find({}, {"roomId": 1, "u.account": 1, "roles": 1}):
        members[item["roomId"]][item["u"]["account"]] = _role(item)
    async for row in db.room_members.find({}):
        if row["member"]["type"] == "org":
            orgs[row["rid"]].append(row["member"]["id"])
        else:
            individuals[row["rid"]].append(row["member"]["account"])
    recording.members, recording.orgs, recording.individuals = dict(members), dict(orgs), dict(individuals)
    recording.outbox = await db.room_worker_outbox.count_documents({})


_VERSIONS = (ChangeKind.CURRENT, ChangeKind.HIGH, ChangeKind.STAGED)


def _role(document: Any) -> str | None:
    roles = document.get("roles")
    return roles[0] if roles else None
