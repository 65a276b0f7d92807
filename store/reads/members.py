"""The members of rooms, as accounts, page by page.

The server sorts along the unique index and groups each page by room. So a page has one small document per room and
not one per member, no membership document is ever examined, and many small rooms take one query.
(docs/pitfalls.md, items 21 and 34)

Each page query also checks the lease. A replica that has lost it would otherwise find members that the new owner
added, and could send them a key before their join notice.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Any, Final

from roomkeys.errors import LeaseLost
from store.database import Database, Document
from store.documents import only_texts
from store.leases.lease import CURSORS, Lease
from store.transaction import wait_despite_cancellation

START: Final = None
"""The `after` of the first page: before every account."""

_LEASE_IS_VALID: Final = {"lease": "valid"}
"""The last document of a page that was read under a valid lease."""


async def pages(
    database: Database,
    lease: Lease,
    room_ids: Iterable[str],
    *,
    first: int,
    most: int,
    session: Any = None,
    after: str | None = START,
) -> AsyncGenerator[dict[str, list[Any]], None]:
    """Yield pages `{room_id: [account, …]}` until every member of every room was yielded once.

    Rooms come in order of their ids, and the last room of a page may continue in the next. The accounts of the
    first room begin after `after`. The first page has `first` accounts, and each next one twice as many, up to
    `most`. Without rooms, nothing is read.

    Pages are read in `session`, by default that of the lease. The next page is read while the caller uses this
    one, so close the generator before using the session. Raise `LeaseLost` if the lease is lost.
    """
    pages_read = _read_pages(database, lease, room_ids, session or lease.session, min(first, most), most, after)
    reading = asyncio.ensure_future(anext(pages_read, None))
    try:
        await wait_despite_cancellation(reading)
        while (accounts := reading.result()) is not None:
            reading = asyncio.ensure_future(anext(pages_read, None))
            yield accounts
            await wait_despite_cancellation(reading)
    finally:
        await wait_despite_cancellation(reading)


async def _read_pages(
    database: Database, lease: Lease, room_ids: Iterable[str], session: Any, page: int, most: int, after: str | None
) -> AsyncGenerator[dict[str, list[Any]], None]:
    unread = sorted(set(room_ids))
    plain: list[Document] = []
    while unread:
        rooms = unread if after is START else unread[:1]
        pipeline = [*plain, *page_pipeline(rooms, after, page), _lease_stage(lease)]
        found = await database.aggregate("subscriptions", pipeline, session)
        if not found or found.pop() != _LEASE_IS_VALID:
            raise LeaseLost
        accounts = {item["_id"]: item["accounts"] for item in found if isinstance(item["_id"], str)}
        is_full = sum(len(item["accounts"]) for item in found) == page
        last = max(accounts, default="")
        if is_full and not plain and (len(accounts) < len(found) or isinstance(accounts[last][-1], list)):
            # The server sorts an array by one of its elements, so no page can begin after it.
            plain = [{"$match": only_texts("roomId", "u.account")}]
            continue
        if accounts:
            yield accounts
        if is_full:
            unread = unread[unread.index(last) :]
            after = accounts[last][-1]
        else:
            unread = unread[len(rooms) :]
            after = START
        page = min(2 * page, most)


def page_pipeline(room_ids: list[str], after: str | None, page: int) -> list[Document]:
    """Return the pipeline of up to `page` accounts after `after`, the last one read or `START`. An index covers it.

    A range of texts finds texts only, and arrays that contain some.
    """
    beyond = {"$gte": ""} if after is None else {"$gt": after}
    match = {"roomId": {"$in": room_ids}, "u.account": beyond}
    return [*_first(match, page), {"$group": {"_id": "$roomId", "accounts": {"$push": "$u.account"}}}]


def whole_rooms_pipeline(room_ids: list[str], most: int) -> list[Document]:
    """Return the pipeline of up to `most` accounts of rooms, of whatever type. An index covers it.

    What is no account is no text in the result either: a `$unionWith` makes text of JavaScript code.
    """
    account = {"$cond": [{"$in": [{"$type": "$u.account"}, ["missing", "javascript"]]}, None, "$u.account"]}
    group = {"$group": {"_id": "$roomId", "accounts": {"$push": account}}}
    return [*_first({"roomId": {"$in": room_ids}}, most), group]


def _first(match: Document, most: int) -> list[Document]:
    return [{"$match": match}, {"$sort": {"roomId": 1, "u.account": 1}}, {"$limit": most}]


def _lease_stage(lease: Lease) -> Document:
    """Return the stage that adds `_LEASE_IS_VALID` after a page, if the lease is still valid then."""
    mark = {name: {"$literal": value} for name, value in _LEASE_IS_VALID.items()}
    pipeline = [{"$match": lease.fence}, {"$project": {"_id": 0, **mark}}]
    return {"$unionWith": {"coll": CURSORS, "pipeline": pipeline}}


async def still_members(
    database: Database, accounts_by_room: dict[str, list[str]], session: Any, lease: Lease | None = None
) -> dict[str, list[str]]:
    """Return, by room id, those of these accounts that are still members. Without accounts, nothing is read.

    Raise `LeaseLost` if a lease is given and lost.
    """
    asked = {room_id: accounts for room_id, accounts in accounts_by_room.items() if accounts}
    clauses = [{"roomId": room_id, "u.account": {"$in": accounts}} for room_id, accounts in asked.items()]
    if not clauses:
        return {}
    group = {"$group": {"_id": "$roomId", "accounts": {"$push": "$u.account"}}}
    under_lease = [] if lease is None else [_lease_stage(lease)]
    found = await database.aggregate("subscriptions", [{"$match": {"$or": clauses}}, group, *under_lease], session)
    if under_lease and (not found or found.pop() != _LEASE_IS_VALID):
        raise LeaseLost
    return {
        document["_id"]: [account for account in document["accounts"] if isinstance(account, str)]
        for document in found
        if isinstance(document["_id"], str)
    }
