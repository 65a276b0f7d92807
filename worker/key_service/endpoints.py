"""The four endpoints: each turns a call into the bytes of its reply, or raises why not. (contract.md, section 6)

What a call may be told comes from `Desk.rooms` alone, which returns only rooms that its account is a member of.
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
"""The most keys a page of `keys.sync`."""

_RESULT_BYTES: Final = 700
"""More than one result of a page takes: a room id of 255 bytes, escaped, and a key."""


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """A request whose subject has been read; `room_id` where the subject names one."""

    account: str
    room_id: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyServiceContext:
    """What the endpoints answer from: how rooms stand, which rooms an account has, what a message may hold.

    `rooms_per_listing`: how many rooms a page of `keys.sync` looks at; a listing has one more if there are more.
    """

    rooms: ReadBatcher[RoomsQuery, RoomViews]
    listings: ReadBatcher[MembershipQuery, list[str]]
    rooms_per_listing: int
    max_payload: Callable[[], int]
    clock: Clock


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint: its name to whoever watches the service, its subject of a site, and its handler."""

    name: str
    subject: Callable[[str], str]
    handle: Callable[[KeyServiceContext, KeyRequest], Awaitable[bytes]]


async def key_get(desk: KeyServiceContext, call: KeyRequest) -> bytes:
    """Answer with one room's key."""
    item = key_requests.read_get(call.room_id, call.body)
    return key_replies.get_answer(item, await desk.rooms.ask(_need(call.account, [item])))


async def keys_batch(desk: KeyServiceContext, call: KeyRequest) -> bytes:
    """Answer with several rooms' keys."""
    batch = key_requests.read_batch(call.body)
    states = await desk.rooms.ask(_need(call.account, batch.items))
    return key_replies.batch_answer(batch, states, desk.clock())


async def keys_sync(desk: KeyServiceContext, call: KeyRequest) -> bytes:
    """Answer with the next keys that the account lacks: list its rooms, then look them up like all others."""
    sync = key_requests.read_sync(call.account, call.body)
    listed = await desk.listings.ask(MembershipQuery(call.account, sync.after))
    rooms, more = listed[: desk.rooms_per_listing], len(listed) > desk.rooms_per_listing
    states = await desk.rooms.ask(RoomsQuery(call.account, tuple(rooms)))
    most = max(min(PAGE, desk.max_payload() // _RESULT_BYTES), 1)
    page, cursor = key_replies.sync_page(call.account, sync, rooms, states, most=most, more=more)
    return key_replies.sync_answer(page, states, desk.clock(), cursor)


async def status_batch(desk: KeyServiceContext, call: KeyRequest) -> bytes:
    """Answer how several rooms stand."""
    room_ids = key_requests.read_status(call.body)
    need = RoomsQuery(call.account, tuple(room_id for room_id in room_ids if is_token(room_id)))
    return key_replies.status_answer(room_ids, await desk.rooms.ask(need))


ENDPOINTS: Final = (
    Endpoint("key-get", subjects.key_get, key_get),
    Endpoint("keys-batch", subjects.keys_batch, keys_batch),
    Endpoint("keys-sync", subjects.keys_sync, keys_sync),
    Endpoint("status-batch", subjects.status_batch, status_batch),
)


def _need(account: str, items: Iterable[key_requests.Item]) -> RoomsQuery:
    """Return what the items need to know; an id that is no token is no room's."""
    named = [item for item in items if is_token(item.room_id)]
    versions = frozenset(item.version for item in named if item.version is not None)
    return RoomsQuery(account, tuple(dict.fromkeys(item.room_id for item in named)), versions)
