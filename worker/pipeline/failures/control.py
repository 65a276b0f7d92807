"""The control experiment: does the database take what an event like this one reads and writes?

The event's twin concerns a room and an account that do not exist. If the twin's reads and writes are refused too, the
database is to blame, or one collection, or a missing right, and not the event. (docs/design.md, "Blame")
"""

from dataclasses import replace

from roomkeys.decisions.decision import INDIVIDUAL, MembershipReason, RoomChange, RoomCreation
from roomkeys.events.event import Add, AnyEvent, Create, InvalidEvent, Remove
from roomkeys.keys import RoomKey
from roomkeys.membership import MEMBER_ROLES, Kind, Membership, Room
from store.database import Database
from store.documents import new_id
from store.leases.lease import Lease
from store.reads.snapshot import load_batch
from store.writes.apply import rehearse


async def rehearse_twin(database: Database, lease: Lease, event: AnyEvent, now_ms: int) -> None:
    """Read and write what the event's twin reads and writes, and keep none of it. Errors are those of `apply`."""
    if isinstance(event, InvalidEvent):
        return
    room_id, account = new_id(), new_id()
    twin = replace(event, room_id=room_id, requester=account, accounts=(account,) if event.accounts else ())
    if isinstance(twin, Create | Add):
        twin = replace(twin, orgs=(account,) if twin.orgs else ())
    elif isinstance(twin, Remove):
        twin = replace(twin, org=twin.org and account)
    await load_batch(database, [twin], lease.session, page=1)
    change = _change(twin, Room(room_id, room_id, Kind.CHANNEL, lease.site), account, now_ms)
    key = None if change.stage is None else RoomKey.generate(change.stage)
    await rehearse(database, lease, change, key, now_ms)


def _change(event: AnyEvent, room: Room, account: str, now_ms: int) -> RoomChange:
    change = RoomChange(room, high=0, stage=0)
    if isinstance(event, Create | Add):
        joined = Membership(
            new_id(), account, account, room.id, room.site, MEMBER_ROLES, room.name, room.kind, now_ms, title=room.name
        )
        reason = MembershipReason(INDIVIDUAL, account, account, now_ms)
        change = replace(change, joined=(joined,), reasons=(reason,), users_delta=1)
    if isinstance(event, Create):
        change = replace(change, creation=RoomCreation(now_ms), first_use=True)
    if isinstance(event, Remove):
        gone = (account,)
        change = replace(change, left=gone, deleted=gone, demoted=gone, removed_orgs=gone, removed_rows=gone)
        change = replace(change, users_delta=-1)
    return change
