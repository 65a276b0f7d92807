"""Replacements that leave out steps or take them twice or too early. Each is a function of the original."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from nats.aio.client import Client
from pymongo import UpdateOne

from roomkeys.errors import LeaseLost
from store.leases.lease import CURSORS
from store.transaction import Bulk
from store.writes import letters
from tests.verification.oracle.analysis import CLOCK_MS
from worker.pipeline.state.applied_batch import plan_fanout

LOOP = "worker.pipeline.loop:Loop"


def do_nothing(_original: Any) -> Callable[..., Any]:
    """Do nothing instead."""

    async def done(*_args: Any, **_kwargs: Any) -> None:
        return None

    return done


def confirm_at_once(_original: Any) -> Callable[..., Any]:
    """Confirm without waiting."""

    async def said(*_args: Any) -> bool:
        return True

    return said


class FenceIsOnlyRead:
    """Reads the lease before the transaction, which then moves the cursor whether the lease holds or not."""

    def apply(self, apply: Any) -> Callable[..., Any]:
        async def read_first(database: Any, lease: Any, **batch: Any) -> None:
            if not await database[CURSORS].find_one(lease.fence):
                raise LeaseLost
            await apply(database, lease, **batch)

        return read_first

    def fence(self, _fence: Any) -> Callable[..., Any]:
        def moved(lease: Any, _before: Any, after: Any, *_versions: Any) -> Bulk:
            to = {"applied": after.sequence, "appliedNs": after.time_ns}
            return Bulk(CURSORS, [UpdateOne({"_id": lease.id}, {"$set": to})])

        return moved


def fence_is_only_read() -> Mapping[str, Any]:
    reads = FenceIsOnlyRead()
    return {"store.writes.apply:fence": reads.fence, "worker.pipeline.writer:apply": reads.apply}


def without_joiners(_keep_joiners: Any) -> Callable[..., Any]:
    """Read outbox entries back without their joiners."""
    return lambda entry, _members: replace(entry, content=replace(entry.content, joiners=()))


class RecoveryDecidesAgain:
    """Empties the outbox, moves the cursor back to before the last batch, and lets it be decided again."""

    def __init__(self) -> None:
        self.before: Any = None

    def apply(self, apply: Any) -> Callable[..., Any]:
        async def noted(*args: Any, **kwargs: Any) -> None:
            await apply(*args, **kwargs)
            self.before = kwargs["before"]

        return noted

    def recover(self, _recover: Any) -> Callable[..., Any]:
        async def back(loop: Any) -> None:
            if self.before is None:
                return
            database, position = loop.database, self.before
            await database["room_worker_outbox"].delete_many({})
            moved = {"applied": position.sequence, "appliedNs": position.time_ns}
            await database[CURSORS].update_one({"_id": loop.state.lease.id}, {"$set": moved})
            loop.state.advance(position)

        return back


def recovery_decides_again() -> Mapping[str, Any]:
    again = RecoveryDecidesAgain()
    return {"worker.pipeline.writer:apply": again.apply, f"{LOOP}.recover": again.recover}


def flush_as_barrier(_round_trip: Any) -> Callable[..., Any]:
    """Use a flush of nats-py as the barrier."""

    async def flushed(self: Any, _epoch: int) -> bool:
        await self.client.flush()
        return True

    return flushed


def ping_as_nats_py(_send_ping: Any) -> Callable[..., Any]:
    """Send pings ahead of what is in the buffer, as nats-py does."""
    return Client._send_ping


def write_to_the_buffer(_write: Any) -> Callable[..., Any]:
    """Leave what is written in the buffer of the client."""

    async def buffered(self: Any, framed: bytes) -> None:
        await self._send_command(framed)

    return buffered


def announce_first(_finish: Any) -> Callable[..., Any]:
    """Announce results before the keys that they wait for have settled."""

    async def finished(self: Any, applied: Any) -> None:
        plan = plan_fanout(applied.rooms, self.state.large_rooms, self.limits, settles=True)
        plan = await self._deliver(applied, plan)
        await self._announce(self.state.pending.defer(applied.entries, self.state.large_rooms))
        await asyncio.sleep(CLOCK_MS * 4 / 1000)  # a slow database
        await self._settle(plan.inline)

    return finished


def settle_first(deliver: Any) -> Callable[..., Any]:
    """Settle a key, and then send it."""

    async def delivered(self: Any, applied: Any, plan: Any) -> Any:
        await self._settle(plan.inline)
        await asyncio.sleep(0.5)  # a slow broker
        return await deliver(self, applied, plan)

    return delivered


def without_notices(publish_notices: Any) -> Callable[..., Any]:
    """Send no notice."""
    return lambda self, entries: publish_notices(self, [_without_notices(entry) for entry in entries])


def _without_notices(entry: Any) -> Any:
    outcomes = (replace(one, added=(), removed=(), notice=None) for one in entry.outcomes)
    return replace(entry, outcomes=tuple(outcomes))


def delete_letters_first(send: Any) -> Callable[..., Any]:
    """Delete dead letters, and then publish them."""

    async def sent(self: Any, owed: Any) -> Any:
        await letters.delete_letters(self._context.database, [letter.id for letter in owed])
        return await send(self, owed)

    return sent


def reverse_order(in_stream_order: Any) -> Callable[..., Any]:
    """Publish the notices of the last event first."""
    return lambda entries: in_stream_order(entries)[::-1]


def unfinished_rollouts_too(_pop_finished: Any) -> Callable[..., Any]:
    """Take every rollout for finished."""

    def taken(self: Any) -> Any:
        rollouts = dict(self._rollouts)
        self._rollouts.clear()
        for rollout in rollouts.values():
            rollout.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return {room_id: rollout.record for room_id, rollout in rollouts.items()}

    return taken
