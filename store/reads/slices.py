"""What an event in slices touches, some accounts at a time, read in the lease's session. (docs/design.md, rule e)"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from roomkeys.decisions.decision import INDIVIDUAL, ORG
from roomkeys.decisions.slices import Sliceable
from roomkeys.events.event import Remove
from roomkeys.tokens import is_bot
from store.database import Database, Document
from store.documents import membership_key, only_texts, reason, text, value_at
from store.reads.batch_query import REASON_FIELDS


async def unknown_account(database: Database, event: Sliceable, session: Any, most: int) -> str | None:
    """Return a named account that is no user nor, in a removal, a member, or None; `most` are read at once."""
    removes = isinstance(event, Remove)
    named = [account for account in event.accounts if removes or not is_bot(account)]
    for start in range(0, len(named), most):
        some = named[start : start + most]
        users = await database.find("users", {"account": {"$in": some}}, {"_id": 0, "account": 1}, session)
        unknown = set(some) - {text(user["account"]) for user in users}
        if unknown and removes:
            query = {"roomId": event.room_id, "u.account": {"$in": sorted(unknown)}}
            fields = {"_id": 0, "roomId": 1, "u.account": 1}
            members = map(membership_key, await database.find("subscriptions", query, fields, session))
            unknown -= {member[1] for member in members if member is not None}
        if unknown:
            return min(unknown)
    return None


async def next_accounts(database: Database, event: Sliceable, after: str, session: Any, most: int) -> list[str]:
    """Return, in order, the first `most` accounts after `after` that the event touches.

    It touches the accounts that it names, the users of its orgs and, if it adds the first org of a room, every
    member of the room.
    """
    found = {account for account in event.accounts if account > after}
    orgs: Sequence[str | None] = [event.org] if isinstance(event, Remove) else event.orgs
    if any(orgs):
        found |= await _accounts(database, partial(_users_of, orgs), "account", after, session, most)
        if not isinstance(event, Remove) and not await _orgs_of(database, event.room_id, session):
            found |= await _accounts(database, partial(_members_of, event.room_id), "u.account", after, session, most)
    return sorted(found)[:most]


def _users_of(orgs: Sequence[str | None], beyond: Document) -> tuple[str, Document]:
    return "users", {"$or": [{field: {"$in": orgs}, "account": beyond} for field in ("sectId", "deptId")]}


def _members_of(room_id: str, beyond: Document) -> tuple[str, Document]:
    return "subscriptions", {"roomId": room_id, "u.account": beyond}


async def _accounts(
    database: Database,
    query: Callable[[Document], tuple[str, Document]],
    field: str,
    after: str,
    session: Any,
    most: int,
) -> set[str]:
    """Return at least the first `most` accounts at `field` after `after`, or all if there are fewer.

    Neither duplicates nor arrays, which the query also finds, take the place of another account.
    """
    accounts: set[str] = set()
    strict: Document = {}
    while True:
        collection, which = query({"$gt": after})
        fields = {"_id": 0, field: 1}
        found = await database.find(collection, {**which, **strict}, fields, session, sort=field, limit=most)
        texts = [value for item in found if isinstance(value := value_at(item, field), str)]
        if len(texts) < len(found):
            strict = only_texts(field)
            continue
        accounts.update(texts)
        if len(found) < most or len(accounts) >= most:
            return accounts
        after = texts[-1]


async def reasons_to_clear(database: Database, event: Sliceable, session: Any, most: int) -> list[str]:
    """Return the ids of up to `most` individual reasons that have to be deleted with the room's last org."""
    if not isinstance(event, Remove) or await _orgs_of(database, event.room_id, session) != {event.org}:
        return []
    query = {"rid": event.room_id, "member.type": INDIVIDUAL}
    return [row["_id"] for row in await database.find("room_members", query, {"_id": 1}, session, limit=most)]


async def _orgs_of(database: Database, room_id: str, session: Any) -> set[str]:
    query = {"rid": room_id, "member.type": ORG}
    rows = map(reason, await database.find("room_members", query, REASON_FIELDS, session))
    return {row.id for row in rows if row is not None}
