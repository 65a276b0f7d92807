"""The four endpoints: each turns a request into the bytes of its reply, or raises `Rejection`.

Everything that a reply says about rooms comes from `KeyServiceContext.rooms`, which returns only rooms that the
account of the request is a member of. (docs/contract.md, section 6)
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from roomkeys import subjects
from roomkeys.membership import RoomViews
from roomkeys.messages import key_replies, key_requests
from roomkeys.tokens import is_token
from store.reads.key_lookups import MembershipQuery, RoomsQuery
from worker.clock import Clock
from worker.key_service.batching import ReadBatcher

PAGE: Final = 500
"""Maximum number of keys in a page of `keys.sync`."""

_RESULT_BYTES: Final = 700
"""More than one result of a page takes: a room id of 255 bytes, escaped, and a key."""


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """A request whose subject has been read; `room_id` is empty where the subject names no room."""

    account: str
    room_id: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyServiceContext:
    """What endpoints use: `rooms` reads rooms, `memberships` lists the rooms of an account.

    `rooms_per_listing` is how many rooms a page of `keys.sync` reads; a listing has one more if there are more.
    `max_payload` returns how many bytes a message may have on the current connection.
    """

    rooms: ReadBatcher[RoomsQuery, RoomViews]
    memberships: ReadBatcher[MembershipQuery, list[str]]
    rooms_per_listing: int
    max_payload: Callable[[], int]
    clock: Clock


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint: its name in discovery and metrics, its subject at a site, and its handler."""

    name: str
    subject: Callable[[str], str]
    handle: Callable[[KeyServiceContext, KeyRequest], Awaitable[bytes]]


async def key_get(context: KeyServiceContext, request: KeyRequest) -> bytes:
    """Answer with the key of one room."""
    item = key_requests.decode_get_request(request.room_id, request.body)
    return key_replies.encode_get_reply(item, await context.rooms.ask(_rooms_query(request.account, [item])))


async def keys_batch(context: KeyServiceContext, request: KeyRequest) -> bytes:
    """Answer with the keys of several rooms."""
    batch = key_requests.decode_batch_request(request.body)
    rooms = await context.rooms.ask(_rooms_query(request.account, batch.items))
    return key_replies.encode_batch_reply(batch, rooms, context.clock())


async def keys_sync(context: KeyServiceContext, request: KeyRequest) -> bytes:
    """Answer with a page of the keys that the account lacks.

    Lists the rooms of the account first, and then reads them in the same way as the other endpoints.
    """
    sync = key_requests.decode_sync_request(request.account, request.body)
    listed = await context.memberships.ask(MembershipQuery(request.account, sync.after))
    room_ids, more = listed[: context.rooms_per_listing], len(listed) > context.rooms_per_listing
    rooms = await context.rooms.ask(RoomsQuery(request.account, tuple(room_ids)))
    most = max(min(PAGE, context.max_payload() // _RESULT_BYTES), 1)
    page, cursor = key_replies.sync_page(request.account, sync, room_ids, rooms, most=most, more=more)
    return key_replies.encode_sync_reply(page, rooms, context.clock(), cursor)


async def status_batch(context: KeyServiceContext, request: KeyRequest) -> bytes:
    """Answer with the state of several rooms."""
    room_ids = key_requests.decode_status_request(request.body)
    query = RoomsQuery(request.account, tuple(room_id for room_id in room_ids if is_token(room_id)))
    return key_replies.encode_status_reply(room_ids, await context.rooms.ask(query))


ENDPOINTS: Final = (
    Endpoint("key-get", subjects.key_get, key_get),
    Endpoint("keys-batch", subjects.keys_batch, keys_batch),
    Endpoint("keys-sync", subjects.keys_sync, keys_sync),
    Endpoint("status-batch", subjects.status_batch, status_batch),
)


def _rooms_query(account: str, items: Iterable[key_requests.Item]) -> RoomsQuery:
    """Return the query for what the items need; no room has an id that is not a token."""
    valid = [item for item in items if is_token(item.room_id)]
    versions = frozenset(item.version for item in valid if item.version is not None)
    return RoomsQuery(account, tuple(dict.fromkeys(item.room_id for item in valid)), versions)
