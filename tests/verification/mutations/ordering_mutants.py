"""Wrong turns of the loop: steps left out, done twice or too early. Each function makes what is broken."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from nats.aio.client import Client
from pymongo import UpdateOne

from roomkeys.errors import LeaseLost
from store.leases.lease import CURSORS
from store.transaction import Bulk
from tests.verification.oracle.analysis import CLOCK_MS
from worker.pipeline.applied import plan_fanout

LOOP = "worker.pipeline.loop:Loop"


def nothing(_original: Any) -> Callable[..., Any]:
    """Do nothing instead."""

    async def done(*_args: Any, **_kwargs: Any) -> None:
        return None

    return done


def yes(_original: Any) -> Callable[..., Any]:
    """Say yes at once."""

    async def said(*_args: Any) -> bool:
        return True

    return said


class OnlyReads:
    """Looks whether the lease holds, before the transaction, and then moves the cursor under anybody's."""

    def applying(self, apply: Any) -> Callable[..., Any]:
        async def looked(database: Any, lease: Any, **what: Any) -> None:
            if not await database[CURSORS].find_one(lease.fence):
                raise LeaseLost
            await apply(database, lease, **what)

        return looked

    def fencing(self, _fence: Any) -> Callable[..., Any]:
        def moved(lease: Any, _before: Any, after: Any) -> Bulk:
            to = {"applied": after.sequence, "appliedNs": after.time_ns}
            return Bulk(CURSORS, [UpdateOne({"_id": lease.id}, {"$set": to})])

        return moved


def only_reading() -> Mapping[str, Any]:
    reads = OnlyReads()
    return {"store.writes.apply:fence": reads.fencing, "worker.pipeline.writer:apply": reads.applying}


def without_joiners(_for_members: Any) -> Callable[..., Any]:
    """Forget who joined."""
    return lambda entry, _members: replace(entry, content=replace(entry.content, joiners=()))


class DecidesAgain:
    """Goes back to before the batch that was applied and decides it once more."""

    def __init__(self) -> None:
        self.before: Any = None

    def applying(self, apply: Any) -> Callable[..., Any]:
        async def noted(*args: Any, **kwargs: Any) -> None:
            await apply(*args, **kwargs)
            self.before = kwargs["before"]

        return noted

    def recovering(self, _recover: Any) -> Callable[..., Any]:
        async def back(loop: Any) -> None:
            if self.before is None:
                return
            database, position = loop.database, self.before
            await database["room_worker_outbox"].delete_many({})
            moved = {"applied": position.sequence, "appliedNs": position.time_ns}
            await database[CURSORS].update_one({"_id": loop.state.lease.id}, {"$set": moved})
            loop.state.advance(position)

        return back


def deciding_again() -> Mapping[str, Any]:
    again = DecidesAgain()
    return {"worker.pipeline.writer:apply": again.applying, f"{LOOP}.recover": again.recovering}


def flushing(_confirm: Any) -> Callable[..., Any]:
    """Take a flush of nats-py for a barrier."""

    async def flushed(self: Any, _epoch: int) -> bool:
        await self.client.flush()
        return True

    return flushed


def pinging_as_nats_py(_send_ping: Any) -> Callable[..., Any]:
    """Let pings overtake what the buffer holds."""
    return Client._send_ping


def leaving_to_the_buffer(_write: Any) -> Callable[..., Any]:
    """Leave what is written to the client's buffer."""

    async def buffered(self: Any, framed: bytes) -> None:
        await self._send_command(framed)

    return buffered


def announcing_first(_finish: Any) -> Callable[..., Any]:
    """Announce results before the keys that they wait for have settled."""

    async def finished(self: Any, applied: Any) -> None:
        plan = plan_fanout(applied.rooms, self.state.large_rooms, self.limits, settles=True)
        await self._deliver(applied, plan)
        await self._announce(self.state.pending.defer(applied.entries, self.state.large_rooms))
        await asyncio.sleep(CLOCK_MS * 4 / 1000)  # a slow database
        await self._settle(plan.inline)

    return finished


def settling_first(deliver: Any) -> Callable[..., Any]:
    """Put a key to use, and then send it."""

    async def delivered(self: Any, applied: Any, plan: Any) -> None:
        await self._settle(plan.inline)
        await asyncio.sleep(0.5)  # a slow broker
        await deliver(self, applied, plan)

    return delivered


def letters_only(tell: Any) -> Callable[..., Any]:
    """Send the dead letters and no notice."""
    return lambda self, owed: tell(self, [_without_notices(item) for item in owed])


def _without_notices(owed: Any) -> Any:
    return replace(owed, outcomes=tuple(replace(one, added=(), removed=(), notice=None) for one in owed.outcomes))


def backwards(in_stream_order: Any) -> Callable[..., Any]:
    """Tell what came last first."""
    return lambda owed: in_stream_order(owed)[::-1]


def unfinished_too(_take_finished: Any) -> Callable[..., Any]:
    """Take every pass for finished."""

    def taken(self: Any) -> Any:
        rollouts = dict(self._rollouts)
        self._rollouts.clear()
        for rollout in rollouts.values():
            rollout.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return {room_id: rollout.record for room_id, rollout in rollouts.items()}

    return taken
