"""Large rooms: a rollout brings the staged key to a room's members page by page, while the loop goes on.

A rollout reads, sends and confirms, and writes nothing. The loop stays the only writer: it settles the room
between two batches once the rollout is over. The loop also sends joiners their keys, in the batch that adds them.

A room none of whose members the broker let the loop send their key has a rollout too, whatever its size. It is over
once a member can be reached. So has a room whose key cannot settle, until it can. (docs/design.md, "Large rooms",
"Denials" and "Set-aside rooms")
"""

import asyncio
from collections.abc import Callable, Iterable, KeysView
from dataclasses import dataclass
from typing import Final

from roomkeys.backoff import NO_JITTER, Backoff
from roomkeys.errors import TransientError
from roomkeys.keys import KeyRecord, RoomKey
from roomkeys.messages.room_key import RoomKeyEvent, marshal
from store.leases.lease import Lease
from worker.broker.cancellation import cancel_and_wait
from worker.pipeline.failures.batch_sizer import conflict_backoff
from worker.pipeline.rollouts.passes import Denied, FanoutPass, JoinerPass, PassContext
from worker.telemetry import metrics
from worker.telemetry.logs import logger

_SETTLE_PAUSES: Final = Backoff(0.2, 5.0, spread=NO_JITTER)
"""Seconds between two attempts to settle a room that could not settle."""
_ATTEMPTS_PER_REPORT: Final = 10

log = logger("large_rooms")


@dataclass(slots=True)
class Rollout:
    """A room whose key is on its way: the room's keys as the loop knows them, and the task.

    `excluded` are joiners whose notice is not confirmed yet: they get the key from the loop, after the notice.
    `owed`: the rollout brings these joiners, who were denied it, the current key; None: it brings the staged key.
    """

    record: KeyRecord
    task: asyncio.Task[None]
    excluded: set[str]
    owed: dict[str, None] | None = None


class LargeRooms:
    """The rollouts of one partition; `wake` is called when one is over."""

    def __init__(self, context: PassContext, lease: Lease, wake: Callable[[], None]) -> None:
        self._context = context
        self._lease = lease
        self._wake = wake
        self._rollouts: dict[str, Rollout] = {}
        self._attempts: dict[str, int] = {}

    def __contains__(self, room_id: object) -> bool:
        return room_id in self._rollouts

    @property
    def room_ids(self) -> KeysView[str]:
        """Return the rooms in rollout."""
        return self._rollouts.keys()

    @property
    def is_full(self) -> bool:
        """Tell whether the partition should take no further batch: too many joiners wait for their key."""
        owed = sum(len(rollout.owed or ()) for rollout in self._rollouts.values())
        return owed > self._context.limits.owed_joiners

    def begin(self, room_id: str, record: KeyRecord) -> None:
        """Begin a rollout of the record's staged key; do nothing if there is none."""
        if record.staged is not None:
            excluded, event = set[str](), RoomKeyEvent(room_id, record.staged)
            payload = marshal(event, self._context.clock())
            fanout_pass = FanoutPass(self._context, self._lease, room_id, record.staged, excluded, payload)
            self._rollouts[room_id] = Rollout(record, self._start(room_id, fanout_pass), excluded)

    def owe(self, room_id: str, record: KeyRecord, joiners: Iterable[str]) -> None:
        """Send joiners, who were denied it, the current key of a room without a staged key as soon as possible."""
        rollout = self._rollouts.get(room_id)
        if rollout is not None:
            if rollout.owed is not None:  # otherwise its pass reaches them
                rollout.owed.update(dict.fromkeys(joiners))
            return
        owed, excluded = dict.fromkeys(joiners), set[str]()
        joiner_pass = JoinerPass(self._context, self._lease, room_id, owed, excluded)
        self._rollouts[room_id] = Rollout(record, self._start(room_id, joiner_pass), excluded, owed)

    def postpone(self, room_id: str, record: KeyRecord, cause: str) -> None:
        """Let the loop settle a room later, whose staged key has reached all members and cannot settle now.

        Until then the room is treated as one in rollout: joiners get the staged key, and results wait.
        """
        attempts = self._attempts.get(room_id, 0) + 1
        if attempts % _ATTEMPTS_PER_REPORT == 1:
            log.warning("key cannot settle, trying again", room=room_id, attempts=attempts, cause=cause)
        task = asyncio.create_task(asyncio.sleep(_SETTLE_PAUSES.pause(attempts)))
        task.add_done_callback(lambda _: self._wake())
        self._attempts[room_id] = attempts
        self._rollouts[room_id] = Rollout(record, task, set())

    def settled(self, room_ids: Iterable[str]) -> None:
        """Note rooms that have settled: the next time that one of them cannot, it begins with the first pause."""
        for room_id in room_ids if self._attempts else ():
            self._attempts.pop(room_id, None)

    async def update(self, room_id: str, record: KeyRecord) -> bool:
        """Take over a room's keys as the batch in hand leaves them.

        False: the room was re-created, has another staged key or none, and its rollout has ended.
        """
        rollout = self._rollouts[room_id]
        if rollout.owed is not None or rollout.record.staged == record.staged:
            rollout.record = record
            return True
        await cancel_and_wait(self._rollouts.pop(room_id).task)
        return False

    def staged_keys(self, room_ids: Iterable[str]) -> dict[str, RoomKey]:
        """Return the keys that are on their way to those of these rooms that are in rollout."""
        keys = ((room_id, self._rollouts[room_id].record.staged) for room_id in room_ids if room_id in self._rollouts)
        return {room_id: key for room_id, key in keys if key is not None}

    def exclude(self, room_id: str, accounts: Iterable[str]) -> None:
        """Leave the joiners of a room in rollout to the loop until `joiners_notified`."""
        self._rollouts[room_id].excluded.update(accounts)

    def joiners_notified(self) -> None:
        """Note that the notice of every joiner is confirmed: rollouts may send them keys."""
        for rollout in self._rollouts.values():
            rollout.excluded.clear()

    def pop_finished(self) -> dict[str, KeyRecord]:
        """Return the rooms whose rollout is over, and forget them; raise the error of a rollout that failed.

        A record without a staged key is that of a room whose joiners have their key. If a key was staged meanwhile,
        its rollout begins.
        """
        finished = {room_id: rollout for room_id, rollout in self._rollouts.items() if rollout.task.done()}
        for room_id, rollout in finished.items():
            rollout.task.result()
            del self._rollouts[room_id]
            if rollout.owed:  # more joiners since it was over
                self.owe(room_id, rollout.record, rollout.owed)
            elif rollout.owed is not None:
                self.begin(room_id, rollout.record)
        return {room_id: rollout.record for room_id, rollout in finished.items() if room_id not in self._rollouts}

    async def close(self) -> None:
        """End all rollouts; the next owner of the partition begins them again."""
        for rollout in self._rollouts.values():
            await cancel_and_wait(rollout.task)
        self._rollouts.clear()

    def _start(self, room_id: str, one_pass: FanoutPass | JoinerPass) -> asyncio.Task[None]:
        task = asyncio.create_task(self._roll_out(room_id, one_pass))
        task.add_done_callback(lambda _: self._wake())
        return task

    async def _roll_out(self, room_id: str, one_pass: FanoutPass | JoinerPass) -> None:
        """Run the pass, through any number of outages and for as long as the broker denies its keys."""
        context, slots = self._context, self._context.slots
        interruptions, denials = conflict_backoff(), Backoff(0.5, context.limits.denied_retry_s)
        log.info("rollout started", room=room_id)
        try:
            while True:
                try:
                    async with slots:
                        await one_pass.run()
                    context.denied_rooms.remove(room_id, is_delivered=True)
                    break
                except Denied as denied:
                    slots, pause = context.retries, denials.next()
                    context.denied_rooms.add(room_id, str(denied))
                except TransientError as error:
                    metrics.RETRIES.labels("pass").inc()
                    log.warning("rollout interrupted", cause=str(error))
                    await context.broker.until_connected()
                    pause = interruptions.next()
                await asyncio.sleep(pause)
        finally:
            context.denied_rooms.remove(room_id, is_delivered=False)
        log.info("rollout finished", room=room_id)
