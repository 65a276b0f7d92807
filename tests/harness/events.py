"""Bodies of the events that tests publish, as a producer writes them. (docs/contract.md, section 1)

Alice asks for all of them, unless a test passes another requester. Tests whose subject is the body itself, such as
those of invalid events, write it out.
"""

from typing import Any

Body = dict[str, Any]


def create(room_id: str, *users: str, name: str = "general", requester: str = "alice", **fields: Any) -> Body:
    """Return the body of a create; a room with a name is a channel."""
    return {"roomId": room_id, "name": name, "users": list(users), "requesterAccount": requester, **fields}


def add(room_id: str, *users: str, requester: str = "alice", **fields: Any) -> Body:
    """Return the body of a member.add. `fields` may have the `orgs` and the `channels` to add."""
    named = {"users": list(users)} if users else {}
    return {"roomId": room_id, "requesterAccount": requester, **named, **fields}


def remove(room_id: str, *, requester: str = "alice", **fields: Any) -> Body:
    """Return the body of a member.remove. `fields` has the `account`, the `accounts` or the `orgId` to remove."""
    return {"roomId": room_id, "requester": requester, **fields}


def rotate(room_id: str, *, requester: str = "alice", **fields: Any) -> Body:
    """Return the body of a key.rotate."""
    return {"roomId": room_id, "requester": requester, **fields}
