"""Survivors: the accounts of rooms, by projection, page by page.

The server sorts along the unique index and groups each page by room, so a page is one small document a room
instead of one a member, no membership's document is ever examined, and many small rooms take one query, not
one each. (pitfalls.md, items 21 and 34)

Each page is read under the lease: who has lost the partition would also find those whom its next owner has made
members and not yet told of it, and bring them the key before the notice.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Any, Final

from roomkeys.errors import LeaseLost
from store.database import Database, Document
from store.leases.lease import CURSORS, Lease
from store.transaction import wait_despite_cancellation

START: Final = object()
"""Before the first account."""

_ACCOUNT: Final = {"$ifNull": ["$u.account", None]}
"""What is missing is not pushed, and a page that is short by it would look like the last one."""

_HELD: Final = {"held": "yes"}


async def pages(
    database: Database,
    lease: Lease,
    room_ids: Iterable[str],
    *,
    first: int,
    most: int,
    session: Any = None,
    after: Any = START,
) -> AsyncGenerator[dict[str, list[Any]], None]:
    """Yield `{room_id: [account, …]}` until every member of every room was yielded once; no rooms: no query.

    Rooms come in order of their ids, and the last one of a page may go on in the next. The first room's
    accounts begin after `after`. The first page has `first` accounts, each next one twice as many, up to `most`.
    Read in the lease's session unless in another; `LeaseLost` once it is lost. The next page is read while the
    caller has this one: close the generator before the session is used again.
    """
    found = _one_by_one(database, lease, room_ids, session or lease.session, min(first, most), most, after)
    reading = asyncio.ensure_future(anext(found, None))
    try:
        await wait_despite_cancellation(reading)
        while (accounts := reading.result()) is not None:
            reading = asyncio.ensure_future(anext(found, None))
            yield accounts
            await wait_despite_cancellation(reading)
    finally:
        await wait_despite_cancellation(reading)


async def _one_by_one(
    database: Database, lease: Lease, room_ids: Iterable[str], session: Any, page: int, most: int, after: Any
) -> AsyncGenerator[dict[str, list[Any]], None]:
    waiting = sorted(set(room_ids))
    while waiting:
        rooms = waiting if after is START else waiting[:1]
        pipeline = [*page_pipeline(rooms, after, page), _lease_stage(lease)]
        found = await database.aggregate("subscriptions", pipeline, session)
        if not found or found.pop() != _HELD:
            raise LeaseLost
        accounts = {document["_id"]: document["accounts"] for document in found}
        if accounts:
            yield accounts
        if sum(map(len, accounts.values())) == page:
            last = max(accounts)
            waiting = waiting[waiting.index(last) :]
            after = accounts[last][-1]
        else:
            waiting = waiting[len(rooms) :]
            after = START
        page = min(2 * page, most)


def page_pipeline(room_ids: list[str], after: Any, page: int) -> list[Document]:
    """Return the covered pipeline of one page; `after` is the last account of the page before, or `START`."""
    match: Document = {"roomId": {"$in": room_ids}}
    if isinstance(after, str):
        match["u.account"] = {"$gt": after}
    elif after is not START:
        # Something that is no text stands before all texts; only an expression compares across types.
        match["$expr"] = {"$gt": ["$u.account", {"$literal": after}]}
    return [
        {"$match": match},
        {"$sort": {"roomId": 1, "u.account": 1}},
        {"$limit": page},
        {"$group": {"_id": "$roomId", "accounts": {"$push": _ACCOUNT}}},
    ]


def _lease_stage(lease: Lease) -> Document:
    """Return the stage that ends a page with a mark, found after the page, if the lease still holds."""
    mark = [{"$match": lease.fence}, {"$project": {"_id": 0, "held": {"$literal": _HELD["held"]}}}]
    return {"$unionWith": {"coll": CURSORS, "pipeline": mark}}


async def still_members(
    database: Database, accounts_by_room: dict[str, list[str]], session: Any
) -> dict[str, list[str]]:
    """Return, in the same shape, who of these accounts still is a member; nobody asked for: no query."""
    clauses = [
        {"roomId": room_id, "u.account": {"$in": accounts}}
        for room_id, accounts in accounts_by_room.items()
        if accounts
    ]
    if not clauses:
        return {}
    group = {"$group": {"_id": "$roomId", "accounts": {"$push": "$u.account"}}}
    found = await database.aggregate("subscriptions", [{"$match": {"$or": clauses}}, group], session)
    return {document["_id"]: document["accounts"] for document in found}
