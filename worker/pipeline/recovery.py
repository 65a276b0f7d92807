"""Recovery: reads back what a partition has applied and not finished, in the order in which it was applied."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

from roomkeys.decisions.slices import Sliceable
from roomkeys.events.decode import decode, parse
from roomkeys.events.event import InvalidEvent, Rotate
from store.database import Database
from store.leases.lease import Lease
from store.reads.members import still_members
from store.reads.snapshot import load_rooms
from store.writes import outbox
from store.writes.outbox import StoredEntry
from worker.pipeline.deliver import joiners_by_room
from worker.pipeline.failures.set_aside import SetAside
from worker.pipeline.state.applied_batch import AppliedBatch


async def unfinished(database: Database, lease: Lease, page: int) -> AsyncIterator[AppliedBatch]:
    """Yield the outbox entries, some at a time, with their rooms as they are now.

    Keys are read first and members after them: joiners who have left since get no key.
    """
    async for entries in outbox.unfinished(database, lease, page):
        room_ids = {entry.content.room_id for entry in entries if entry.content.room_id is not None}
        rooms = await load_rooms(database, room_ids, lease.session)
        members = await still_members(database, joiners_by_room(entry.content for entry in entries), lease.session)
        yield AppliedBatch([_keep_joiners(entry, members) for entry in entries], rooms)


async def partially_applied(database: Database, lease: Lease, set_aside: SetAside) -> Sliceable:
    """Return the event that is applied in slices; `LookupError` if the outbox lacks it.

    It is the first event of a set-aside room, or the next one of the stream.
    """
    kept = await outbox.kept_event(database, lease)
    event = None if kept is None else set_aside.find(kept) or decode(kept, parse(kept.body))
    if event is None or isinstance(event, InvalidEvent | Rotate):
        raise LookupError("the event that is applied in slices is not in the outbox")
    return event


def _keep_joiners(entry: StoredEntry, members: Mapping[str, list[str]]) -> StoredEntry:
    staying = set(members.get(entry.content.room_id or "", ()))
    joiners = tuple(account for account in entry.content.joiners if account in staying)
    return StoredEntry(entry.id, replace(entry.content, joiners=joiners))
