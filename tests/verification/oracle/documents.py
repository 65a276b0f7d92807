"""What the database holds when a recording begins and when it ends."""

from collections import defaultdict
from typing import Any

from tests.unit.decisions.model import ModelRoom
from tests.verification.oracle.oplog import Oplog, versions
from tests.verification.oracle.recording import Recording, RoomDocument, What


async def read_people(db: Any, recording: Recording) -> None:
    """Read who exists, with the orgs of each: a run must not change them."""
    async for user in db.users.find({}, {"account": 1, "sectId": 1, "deptId": 1}):
        orgs = (user.get("sectId"), user.get("deptId"))
        recording.people[user["account"]] = frozenset(org for org in orgs if org)


async def read_before(db: Any, recording: Recording, oplog: Oplog) -> None:
    """Read the rooms and memberships that are there already."""
    async for room in db.rooms.find({}, {"type": 1, "siteId": 1, "encKey": 1, "keyRotation": 1}):
        oplog.found(room["_id"], room)
        said = versions(room)
        seen = [version for version in (said[What.HIGH], said[What.IN_USE]) if version is not None]
        ours = (room.get("keyRotation") or {}).get("current")
        recording.before[room["_id"]] = ModelRoom(
            room["type"],
            room["siteId"],
            version=max(seen, default=None),
            has_key=ours is not None and ours["ver"] == said[What.IN_USE],
        )
    async for item in db.subscriptions.find({}, {"roomId": 1, "u.account": 1, "roles": 1}):
        oplog.belongs(item["_id"], item["roomId"], item["u"]["account"])
        recording.before[item["roomId"]].members[item["u"]["account"]] = _role(item)
    async for row in db.room_members.find({}):
        room_before = recording.before[row["rid"]]
        if row["member"]["type"] == "org":
            room_before.orgs.add(row["member"]["id"])
        else:
            room_before.individuals.add(row["member"]["account"])


async def read_after(db: Any, recording: Recording) -> None:
    """Read what the run came to."""
    members: defaultdict[str, dict[str, str | None]] = defaultdict(dict)
    orgs: defaultdict[str, list[str]] = defaultdict(list)
    individuals: defaultdict[str, list[str]] = defaultdict(list)
    async for room in db.rooms.find({}):
        said = versions(room)
        recording.rooms[room["_id"]] = RoomDocument(
            room["type"], room["userCount"], room["appCount"], *(said[what] for what in _VERSIONS)
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


_VERSIONS = (What.IN_USE, What.HIGH, What.STAGED)


def _role(document: Any) -> str | None:
    roles = document.get("roles")
    return roles[0] if roles else None
