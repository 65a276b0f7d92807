"""What an event in slices touches, some accounts at a time, read in the lease's session. (docs/design.md, rule e)"""

from typing import Any

from roomkeys.decisions.decision import INDIVIDUAL, ORG
from roomkeys.decisions.slices import Sliceable
from roomkeys.events.event import Remove
from roomkeys.tokens import is_bot
from store.database import Database


async def all_known(database: Database, event: Sliceable, session: Any, most: int) -> bool:
    """Tell whether each named account is a user or, in a removal, a member without one; `most` are read at once."""
    removes = isinstance(event, Remove)
    named = [account for account in event.accounts if removes or not is_bot(account)]
    for start in range(0, len(named), most):
        some = named[start : start + most]
        users = await database.find("users", {"account": {"$in": some}}, {"_id": 0, "account": 1}, session)
        unknown = sorted(set(some) - {user["account"] for user in users})
        if unknown and not (removes and await _all_members(database, event.room_id, unknown, session)):
            return False
    return True


async def _all_members(database: Database, room_id: str, accounts: list[str], session: Any) -> bool:
    query = {"roomId": room_id, "u.account": {"$in": accounts}}
    return len(await database.find("subscriptions", query, {"_id": 0, "u.account": 1}, session)) == len(accounts)


async def next_accounts(database: Database, event: Sliceable, after: str, session: Any, most: int) -> list[str]:
    """Return, in order, the first `most` accounts after `after` that the event touches.

    It touches the accounts that it names, the users of its orgs and, if it adds the first org of a room, every
    member of the room.
    """
    found = {account for account in event.accounts if account > after}
    orgs = [event.org] if isinstance(event, Remove) else list(event.orgs)
    if any(orgs):
        beyond = {"account": {"$gt": after}}
        query = {"$or": [{"sectId": {"$in": orgs}, **beyond}, {"deptId": {"$in": orgs}, **beyond}]}
        fields = {"_id": 0, "account": 1}
        people = await database.find("users", query, fields, session, sort="account", limit=most)
        found |= {user["account"] for user in people}
        if not isinstance(event, Remove) and not await _orgs_of(database, event.room_id, session):
            room = {"roomId": event.room_id, "u.account": {"$gt": after}}
            fields = {"_id": 0, "u.account": 1}
            members = await database.find("subscriptions", room, fields, session, sort="u.account", limit=most)
            found |= {item["u"]["account"] for item in members}
    return sorted(found)[:most]


async def reasons_to_clear(database: Database, event: Sliceable, session: Any, most: int) -> list[str]:
    """Return the ids of up to `most` individual reasons that have to be deleted with the room's last org."""
    if not isinstance(event, Remove) or await _orgs_of(database, event.room_id, session) != {event.org}:
        return []
    query = {"rid": event.room_id, "member.type": INDIVIDUAL}
    return [row["_id"] for row in await database.find("room_members", query, {"_id": 1}, session, limit=most)]


async def _orgs_of(database: Database, room_id: str, session: Any) -> set[str]:
    query = {"rid": room_id, "member.type": ORG}
    rows = await database.find("room_members", query, {"_id": 0, "member.id": 1}, session)
    return {row["member"]["id"] for row in rows}
