"""Lookups: requests that wait while the database is read are answered together by its next read.

Ten thousand clients that miss one key at once cost a handful of reads, and each gets its own slice. Nobody is
answered by a read that began before it asked: a member who is removed is refused from then on.
"""

import asyncio
import time
from collections import deque
from typing import Final

from roomkeys.answers import States
from store.connect import Database
from store.requests import Need, look_up
from worker import metrics
from worker.ending import ended
from worker.logs import logger, where

LANES: Final = 4
"""Reads in flight at once: a slow one does not hold up the others."""

MOST_PAIRS: Final = 10_000
"""Rooms, counted once for each account that asks, a read."""

log = logger("lookups")
_Waiting = tuple[Need, asyncio.Future[States]]


class Lookups:
    """Collects what requests need to know and reads it for all of them at once."""

    def __init__(self, database: Database, tasks: asyncio.TaskGroup) -> None:
        self._database = database
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._lanes = [tasks.create_task(self._serve()) for _ in range(LANES)]

    async def find(self, need: Need) -> States:
        """Return those of the rooms that the account is a member of; `Passing`: the database is away."""
        future: asyncio.Future[States] = asyncio.get_running_loop().create_future()
        self._waiting.append((need, future))
        self._arrived.set()
        return await future

    async def close(self) -> None:
        """Read no more."""
        for lane in self._lanes:
            await ended(lane)

    async def _serve(self) -> None:
        while True:
            await self._arrived.wait()
            if taken := self._take():
                await self._read(taken)
            else:
                self._arrived.clear()

    def _take(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        pairs = 0
        while self._waiting:
            need, future = self._waiting[0]
            pairs += len(need.room_ids)
            if taken and pairs > MOST_PAIRS:
                break
            self._waiting.popleft()
            if not future.done():  # it has not waited too long
                taken.append((need, future))
        return taken

    async def _read(self, taken: list[_Waiting]) -> None:
        metrics.LOOKUPS.observe(len(taken))
        try:
            found = await look_up(self._database, [need for need, _ in taken], time.time_ns() // 1_000_000)
        except Exception as error:  # noqa: BLE001 - whoever waits for it says what it means
            log.warning("lookup failed", requests=len(taken), error=where(error))
            for _, future in taken:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), states in zip(taken, found, strict=True):
            if not future.done():
                future.set_result(states)
